"""A document on the screen: tables of steps and their phases, roofs, and the advice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from gpubp.bench import statistics
from gpubp.bench.contenders import OURS
from gpubp.bench.phases import PHASES
from gpubp.bench.report import comparison, result

Document = Mapping[str, Any]
Row = Mapping[str, Any]

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BUSY = 0.5  # load a core before the run
_LOST = 1000  # an interval whose ends are so far apart, as a ratio, says nothing
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"))


def show(document: Document, console: Console) -> None:
    """Print a document."""
    console.print(_heading(document), highlight=False)
    for (network, precision, device), rows in _groups(document["rows"]):
        place = f"{network}, {rows[0]['parameters']:,} parameters, {precision} on {device}"
        console.print()
        console.print(_steps(f"A training step of {place}", rows))
        console.print()
        console.print(_phases("gpubp by phase", rows))
    console.print()
    for sentence in document["recommendations"]:
        console.print(sentence, highlight=False)
    reasons: dict[str, list[str]] = {}
    for absent in document["missing"]:
        reasons.setdefault(absent["why"], []).append(absent["contender"])
    for why, names in reasons.items():
        console.print(f"not timed: {'; '.join(names)}: {why}", highlight=False)


def compare(document: Document, earlier: Document, console: Console) -> None:
    """Print how a document compares with an earlier one."""
    changes = comparison.changes(result.read(document), result.read(earlier))
    console.print()
    if not changes:
        console.print("the earlier result has no time in common with this one")
        return
    table = _table("now to then: below 1 is faster now", "what", "on", "who", "phase")
    for column in ("ratio", "effect", "p", ""):
        table.add_column(column, justify="right")
    for change in changes:
        now, ratio = change.now, change.ratio
        low, high = ratio.interval or (ratio.value, ratio.value)
        table.add_row(
            f"{now.task.network}@{now.task.batch_size}", f"{now.device} {now.task.precision}",
            now.contender, now.phase, _estimate(statistics.Estimate(ratio.value, low, high)),
            "" if change.effect is None else f"{change.effect:+.2f}",
            "" if change.p is None else f"{change.p:.2g}", change.verdict,
        )  # fmt: skip
    console.print(table)


def seconds(value: float) -> str:
    """Return a time such as ``43.2 µs``."""
    scale, unit = _unit(value)
    return f"{value / scale:.3g} {unit}"


def _unit(value: float) -> tuple[float, str]:
    return next((pair for pair in _UNITS if value >= pair[0]), _UNITS[-1])


def _rate(value: float, unit: str) -> str:
    """Return a rate such as ``209 GFLOP/s``."""
    scale, prefix = next((pair for pair in _PREFIXES if value >= pair[0]), (1.0, ""))
    return f"{value / scale:.3g} {prefix}{unit}"


def _heading(document: Document) -> str:
    environment = document["environment"]
    before, after = (load[0] for load in environment["load"])
    gpus = ", ".join(environment["gpus"]) or "no GPU"
    peers = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    quick = ", quick" * document["quick"]
    busy = " (others used it: rely on no figure)" * (before > _BUSY * environment["cores"])
    budget = document.get("budget")
    took = f"; took {budget['taken']:.0f} of {budget['seconds']:.0f} s" if budget else ""
    lines = [
        f"{environment['processor']}, {environment['cores']} cores, {gpus}, {environment['os']}",
        f"gpubp {environment['gpubp']}, Python {environment['python']}, {peers}",
        f"load of the machine: {before} before, {after} after{busy}{quick}{took}",
    ]
    return "\n".join([*lines, *_roofs(document["roofs"])])


def _roofs(roofs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line of each device's limits."""
    for device in dict.fromkeys(roof["device"] for roof in roofs):
        here = [roof for roof in roofs if roof["device"] == device]
        products = [roof for roof in here if roof["kind"] == "gemm"]
        gemm = [f"{_rate(r['value'], 'FLOP/s')} in {r['precision']}" for r in products]
        copies = [roof["value"] for roof in here if roof["kind"] == "copy"]
        calls = [seconds(roof["value"]) for roof in here if roof["kind"] == "call"]
        yield (
            f"roofs of {device}: {', '.join(gemm)}; copies {_rate(copies[-1], 'B/s')}, in cache "
            f"{_rate(max(copies), 'B/s')}; a call {', '.join(calls)}"
        )


def _groups(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, str, str], list[Row]]]:
    def key(row: Row) -> tuple[str, str, str]:
        return row["network"], row["precision"], row["device"]

    for found, group in groupby(rows, key):
        yield found, list(group)


def _steps(title: str, rows: Sequence[Row]) -> Table:
    table = _table(title, "batch", "contender")
    for column in ("median", "95 % interval", "rows/s", "of its roof", "/ gpubp", "loss"):
        table.add_column(column, justify="right")
    steps = [row for row in rows if row["phase"] == "step"]
    for batch, group in groupby(steps, key=lambda row: row["batch_size"]):
        members = sorted(group, key=lambda row: row["median"])
        floors = [row for row in members if row["contender"].startswith("floor")]
        members = [row for row in members if row not in floors[1:]]  # of several ways, the lowest
        ours = next(row for row in members if row["contender"] == OURS)
        for row in members:
            table.add_row(
                str(batch), row["contender"], seconds(row["median"]),
                _interval(row), f"{batch / row['median']:,.0f}",
                _utilisation(row), _ratio(row, ours), _correct(row),
                style="bold" if row is ours else "", end_section=row is members[-1],
            )  # fmt: skip
    return table


def _phases(title: str, rows: Sequence[Row]) -> Table:
    table = _table(title, "batch")
    for column in (*PHASES, "backward / forward", "epoch"):
        table.add_column(column, justify="right")
    ours = [row for row in rows if row["contender"] == OURS]
    for batch, group in groupby(ours, key=lambda row: row["batch_size"]):
        found = {row["phase"]: row for row in group}
        times = [f"{seconds(found[p]['median'])}, {_utilisation(found[p])}" for p in PHASES]
        ratio = statistics.ratio(
            found["backward"]["samples"], found["forward"]["samples"], paired=True
        )
        table.add_row(
            str(batch), *times, _estimate(ratio),
            _epoch(found["epoch"]) if "epoch" in found else "",
        )  # fmt: skip
    return table


def _epoch(row: Row) -> str:
    """Return the time of an epoch and of how many rows it is, where the document says so."""
    return seconds(row["median"]) + (f", {row['rows']:,} rows" if row.get("rows") else "")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right" if column == "batch" else "left")
    return table


def _utilisation(row: Row) -> str:
    return f"{row['utilisation']:.0%} {row['bound']}" if row["utilisation"] else "-"


def _ratio(row: Row, ours: Row) -> str:
    if row is ours:
        return ""
    found = statistics.ratio(row["samples"], ours["samples"], paired=True)
    return _estimate(found)


def _estimate(found: statistics.Estimate) -> str:
    if found.high > _LOST * found.low:
        return "lost in noise"
    return f"{found.value:.2f} ({found.low:.2f}–{found.high:.2f})"


def _interval(row: Row) -> str:
    """Return both ends in the unit of the upper one."""
    low, high = row["interval"]
    scale, unit = _unit(high)
    return f"{low / scale:.3g}–{high / scale:.3g} {unit}"


def _correct(row: Row) -> str:
    if row["correct"] is None:
        return "-"
    error = row["correct"]["error"]
    size = "not finite" if error is None else f"{error:.0e}"
    return f"{'right' if row['correct']['ok'] else 'WRONG'}, {size}"
