"""What forward, backward and update cost, and whether backward costs two forwards."""

from __future__ import annotations

from gpubp.bench.contenders import OURS
from gpubp.bench.report import parts, units
from gpubp.bench.report.markup import Markup, data, tag
from gpubp.bench.report.result import Result, Row
from gpubp.bench.report.standing import compare

Phases = dict[str, Row]
_NAMES = ("forward", "backward", "update", "step")
_COLUMNS = ("Network", "Forward", "Backward", "Update", "Step", "Ratio|interval")
_LEAD = (
    "It is often said that the backward pass costs about two forward passes, because each product "
    "of the forward pass has two in the backward one, but for the first layer’s, which has one. "
    "The ratio is what it costs here, backward to forward."
)


def section(result: Result) -> parts.Section | None:
    """Return the section, or None if only gpubp's whole steps were timed."""
    found: dict[object, Phases] = {}
    for row in result.rows:
        if row.phase in _NAMES and row.contender == OURS:
            found.setdefault((row.task, row.device), {})[row.phase] = row
    networks: dict[str, list[Phases]] = {}
    for phases in found.values():
        task = next(iter(phases.values())).task
        if len(phases) > 1:
            networks.setdefault(f"{task.network}, {task.precision}", []).append(phases)
    if not networks:
        return None
    bodies = (
        _body(network, members, len(result.devices) > 1) for network, members in networks.items()
    )
    made = parts.table("Medians of the phases of a step", _COLUMNS, *bodies, kind="phases")
    return parts.section("phases", "Forward, backward, update", parts.lead(_LEAD), made)


def _body(network: str, members: list[Phases], devices: bool) -> Markup:
    rows = (_row(phases, devices) for phases in members)
    return tag("tbody", parts.group(network, len(_COLUMNS)), *rows)


def _row(phases: Phases, devices: bool) -> Markup:
    row = next(iter(phases.values()))
    where = f"batch {row.task.batch_size}" + f", {row.device}" * devices
    times = (_time(phases.get(name)) for name in _NAMES)
    ratio = parts.number(parts.NONE)
    if {"forward", "backward"} <= phases.keys() and phases["forward"].median > 0:
        ratio = parts.ratio_cell(compare(phases["backward"], phases["forward"]))
    return tag("tr", tag("th", where, scope="row"), *times, ratio)


def _time(row: Row | None) -> Markup:
    if row is None:
        return parts.number(parts.NONE)
    words = units.seconds(row.median) if row.median > 0 else "lost in noise"
    return tag("td", data(row.median, words), class_="number", data_row=row.index)
