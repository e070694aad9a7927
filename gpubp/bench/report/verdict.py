"""The verdict: gpubp beside the best peer, a row for each task and device."""

from __future__ import annotations

from collections.abc import Iterable

from gpubp.bench.report import parts
from gpubp.bench.report.markup import Markup, join, tag
from gpubp.bench.report.result import Result
from gpubp.bench.report.standing import Standing, compare, standings

PHASES = {"step": "a training step", "epoch": "an epoch"}
_AGAINST = (
    "Medians with bootstrap intervals of 95 %. The ratio is gpubp’s time to that of the best other "
    "library on the same device, in its best setting: below 1, gpubp is the faster. Where the "
    "interval holds 1, the samples do not tell the two apart: even if it is narrow, else unclear."
)
_ALONE = (
    "Medians with bootstrap intervals of 95 %. No other library was timed in this run, so there is "
    "nothing to compare gpubp with."
)


def section(result: Result) -> parts.Section | None:
    """Return the section, or None if gpubp was not timed."""
    known = [standing for standing in standings(result, PHASES) if standing.ours]
    if not known:
        return None
    tables = join(
        _table(words, members, len(result.devices) > 1)
        for phase, words in PHASES.items()
        if (members := [standing for standing in known if standing.phase == phase])
    )
    words = _AGAINST if any(standing.peer for standing in known) else _ALONE
    return parts.section("verdict", "Verdict", parts.lead(words), tables)


def _table(words: str, members: list[Standing], devices: bool) -> Markup:
    against = any(standing.peer for standing in members)
    others = ["Best peer|interval|which", "Ratio|interval|gpubp is"] if against else []
    columns = ["Network", "gpubp|interval", *others, "Right|error"]
    networks = dict.fromkeys((s.task.network, s.task.precision) for s in members)
    bodies = (
        _body(
            f"{network}, {precision}",
            [s for s in members if (s.task.network, s.task.precision) == (network, precision)],
            columns,
            devices,
        )
        for network, precision in networks
    )
    return parts.table(f"Time of {words}", columns, *bodies, kind="verdicts")


def _body(heading: str, members: Iterable[Standing], columns: list[str], devices: bool) -> Markup:
    rows = (_row(standing, len(columns) > 3, devices) for standing in members)
    return tag("tbody", parts.group(heading, len(columns)), *rows)


def _row(standing: Standing, against: bool, devices: bool) -> Markup:
    """Return the row of a task; only called where gpubp was timed."""
    ours, peer = standing.ours, standing.peer
    assert ours is not None
    where = f"batch {standing.task.batch_size}" + f", {standing.device}" * devices
    if standing.phase == "epoch" and ours.rows is not None:
        where += f", {ours.rows:,} rows"
    cells = [tag("th", where, scope="row"), parts.time_cell(ours)]
    if against and peer:
        ratio = compare(ours, peer)
        cells += [
            parts.time_cell(peer, tag("small", peer.contender, class_="name")),
            parts.ratio_cell(ratio, parts.verdict(ratio.verdict)),
        ]
    elif against:
        cells += [parts.number(parts.NONE, "", "")] * 2
    cells.append(parts.correct_cell(ours.correct))
    return tag("tr", *cells, data_row=ours.index, data_peer=peer.index if peer else None)
