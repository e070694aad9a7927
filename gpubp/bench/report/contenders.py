"""Everybody's times in full: a table for each network, precision and phase."""

from __future__ import annotations

from gpubp.bench.report import parts, units
from gpubp.bench.report.looks import Looks
from gpubp.bench.report.markup import Markup, data, tag
from gpubp.bench.report.result import Result, Row
from gpubp.bench.report.standing import Standing, compare, standings
from gpubp.bench.report.verdict import PHASES

_UNFOLDED = 2  # so many tables at most are not folded at first
_LEAD = (
    "The fastest first. To peer: ratio to the best other library on the same device. Of roof: the "
    "rate achieved, as a share of what the device can do at most, and the limit that binds. Right: "
    "how far the result that was checked beside the timing is from its oracle. The floor is the "
    "step’s matrix products by a BLAS, and all its other bytes at the rate of a copy."
)


def section(result: Result, looks: Looks) -> parts.Section | None:
    """Return the section, or None if no step and no epoch was timed."""
    groups: dict[tuple[str, str, str], list[Standing]] = {}
    for standing in standings(result, PHASES):
        key = standing.task.network, standing.task.precision, standing.phase
        groups.setdefault(key, []).append(standing)
    if not groups:
        return None
    tables = (
        parts.folded(
            f"{network}, {precision}{_parameters(members)}: {PHASES[phase]}",
            _table(members, looks),
            unfolded=len(groups) <= _UNFOLDED,
        )
        for (network, precision, phase), members in groups.items()
    )
    return parts.section("contenders", "All contenders", parts.lead(_LEAD), *tables)


def _table(members: list[Standing], looks: Looks) -> Markup:
    rows = [row for standing in members for row in standing.rows]
    columns = ["Contender", "Median|interval"]
    if any(standing.peer for standing in members):
        columns.append("To peer|interval")
    if any(row.utilisation is not None for row in rows):
        columns.append("Of roof|limit")
    columns.append("Right|error")
    bodies = (_body(standing, columns, looks) for standing in members)
    # The line above it, under which it is folded, says the same.
    caption = tag("span", f"Times of {PHASES[members[0].phase]}", class_="hidden")
    return parts.table(caption, columns, *bodies, kind="contenders")


def _parameters(members: list[Standing]) -> str:
    counts = (row.parameters for standing in members for row in standing.rows if row.parameters)
    count = next(counts, None)
    return f", {count:,} parameters" if count else ""


def _body(standing: Standing, columns: list[str], looks: Looks) -> Markup:
    where = f"Batch {standing.task.batch_size} on {standing.device}"
    if standing.ours and standing.floor:
        ratio = units.ratio(standing.ours.median / standing.floor.median)
        where += f": gpubp takes {ratio} of the floor"
    rows = (_row(row, standing.peer, columns, looks) for row in standing.rows)
    return tag("tbody", parts.group(where, len(columns)), *rows)


def _row(row: Row, peer: Row | None, columns: list[str], looks: Looks) -> Markup:
    name = tag("th", tag("span", looks.of(row).swatch(), row.contender, class_="name"), scope="row")
    cells = [name, parts.time_cell(row)]
    if "To peer|interval" in columns:
        cells.append(_to_peer(row, peer))
    if "Of roof|limit" in columns:
        cells.append(_of_roof(row))
    cells.append(parts.number(parts.NONE, "") if row.floor else parts.correct_cell(row.correct))
    return tag("tr", *cells, class_="ours" if row.ours else None, data_row=row.index)


def _to_peer(row: Row, peer: Row | None) -> Markup:
    if peer is None:
        return parts.number(parts.NONE, "")
    if row is peer:
        return parts.number(data(1, "1"), "best peer")
    return parts.ratio_cell(compare(row, peer))


def _of_roof(row: Row) -> Markup:
    if row.utilisation is None:
        return parts.number(parts.NONE, "")
    return parts.number(data(row.utilisation, units.percent(row.utilisation)), row.bound or "")
