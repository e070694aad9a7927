"""The size sweep: time of a step against batch size, and where one line overtakes another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

from gpubp.bench.contenders import OURS
from gpubp.bench.report import parts, units
from gpubp.bench.report.looks import Looks
from gpubp.bench.report.markup import Markup, join, tag
from gpubp.bench.report.picture import WIDTH, figure, gallery, line, text, x_axis, y_axis
from gpubp.bench.report.result import Result, Row
from gpubp.bench.report.scales import Log
from gpubp.bench.report.standing import lowest_floors

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, WIDTH - 14, 14, 226
_HEIGHT = 262
_LEAD = (
    "Time of a step against the size of its batch, both on logarithmic axes. Where a line is flat, "
    "a larger batch costs no more. A ring marks where gpubp on one device overtakes gpubp on "
    "another, or is overtaken by another library on the same one."
)


@dataclass(frozen=True)
class Crossing:
    """Where one line meets another: ``first`` is below before it, ``second`` after it."""

    batch_size: float
    seconds: float
    first: Row
    second: Row

    @property
    def devices(self) -> bool:
        """Whether gpubp on one device meets gpubp on another there."""
        return self.first.ours and self.second.ours


def section(result: Result, looks: Looks) -> parts.Section | None:
    """Return the section, or None if nothing was timed with two batch sizes."""
    groups: dict[tuple[str, str], dict[tuple[str, str], list[Row]]] = {}
    for row in lowest_floors(result.rows):
        if row.phase == "step":
            group = groups.setdefault((row.task.network, row.task.precision), {})
            group.setdefault((row.contender, row.device), []).append(row)
    sweeps = {key: _sweeps(lines) for key, lines in groups.items()}
    drawn = {key: lines for key, lines in sweeps.items() if lines}
    if not groups:
        return None
    if not drawn:
        words = (
            "Every network was timed with one batch size, so there is no sweep. To get one, name "
            "several: gpubp bench --batch-size 64,256,1024."
        )
        return parts.section("sweep", "Batch sizes", parts.lead(words))
    legend = looks.legend(row for lines in drawn.values() for members in lines for row in members)
    pictures = gallery(_figure(*key, lines, looks) for key, lines in drawn.items())
    return parts.section("sweep", "Batch sizes", parts.lead(_LEAD), legend, pictures)


def crossings(lines: Iterable[list[Row]]) -> Iterator[Crossing]:
    """Yield where gpubp meets itself on another device, or a peer on the same one."""
    for one, other in combinations(lines, 2):
        a, b = one[0], other[0]
        ours = [row for row in (a, b) if row.contender == OURS]
        devices = len(ours) == 2 and a.device != b.device
        peers = len(ours) == 1 and (a.peer or b.peer) and a.device == b.device
        if devices or peers:
            yield from _meet(one, other)


def _meet(one: list[Row], other: list[Row]) -> Iterator[Crossing]:
    """Yield the crossings of two lines, straight between points on logarithmic axes."""
    partners = {row.task.batch_size: row for row in other}
    both = [(row, partners[row.task.batch_size]) for row in one if row.task.batch_size in partners]
    for (a, b), (c, d) in pairwise(both):
        before, after = math.log(a.median / b.median), math.log(c.median / d.median)
        if before * after < 0:
            share = before / (before - after)
            first, second = (a, b) if before < 0 else (b, a)
            yield Crossing(
                a.task.batch_size * (c.task.batch_size / a.task.batch_size) ** share,
                a.median * (c.median / a.median) ** share,
                first,
                second,
            )


def _sweeps(lines: dict[tuple[str, str], list[Row]]) -> list[list[Row]]:
    """Return the lines, from the smallest batch up, if any of them has two ends."""
    ordered = [sorted(rows, key=lambda row: row.task.batch_size) for rows in lines.values()]
    return ordered if any(len(rows) > 1 for rows in ordered) else []


def _figure(network: str, precision: str, lines: list[list[Row]], looks: Looks) -> Markup:
    rows = [row for members in lines for row in members]
    sizes = sorted({row.task.batch_size for row in rows})
    x = Log.around(sizes, _LEFT, _RIGHT)
    y = Log.around([row.median for row in rows], _BOTTOM, _TOP)
    found = list(crossings(lines))
    heading = f"{network}, {precision}"
    ends = "; ".join(
        f"{looks.label(m[0])} from {units.seconds(m[0].median)} to {units.seconds(m[-1].median)}"
        for m in lines
    )
    label = f"Time of a step of {heading}, batch {sizes[0]} to {sizes[-1]}: {ends}"
    return figure(
        heading,
        label,
        _HEIGHT,
        x_axis(x, _TOP, _BOTTOM, lambda value: f"{value:g}", _labelled(sizes)),
        y_axis(y, _LEFT, _RIGHT, lambda value: units.tick(value, "s"), y.ticks()),
        text((_LEFT + _RIGHT) / 2, _HEIGHT - 6, "batch size", "axis", "middle"),
        *(_crossover(crossing, x) for crossing in found if crossing.devices),
        *(_line(members, x, y, looks) for members in reversed(lines)),
        *(_ring(crossing, x, y) for crossing in found),
        caption=join((_said(found, lines), parts.checked(rows)), " "),
    )


def _labelled(sizes: list[int]) -> list[float]:
    """Return the batch sizes that get a tick: all of them, or as many as there is room for."""
    stride = -(-len(sizes) // 7)
    return [float(size) for size in sizes[::stride]]


def _line(members: list[Row], x: Log, y: Log, looks: Looks) -> Markup:
    look = looks.of(members[0])
    places = [(x(row.task.batch_size), y(row.median)) for row in members]
    path = "M" + "L".join(f"{across} {down}" for across, down in places)
    marks = (
        look.mark(
            across, down,
            tag("title", f"{look.label}, batch {row.task.batch_size}: {units.seconds(row.median)}"),
            data_row=row.index, data_median=row.median,
        )
        for row, (across, down) in zip(members, places, strict=True)
    )  # fmt: skip
    weight = "ours" if members[0].ours else None
    return tag("g", tag("path", d=path, class_=f"line {look.classes}"), *marks, class_=weight)


def _crossover(crossing: Crossing, x: Log) -> Markup:
    across = x(crossing.batch_size)
    left = across > (_LEFT + _RIGHT) / 2
    words = f"crossover {crossing.batch_size:.0f}"
    return tag(
        "g",
        line(across, _TOP, across, _BOTTOM, "crossover"),
        text(across + (-5 if left else 5), _TOP + 9, words, "strong", "end" if left else None),
        data_crossover=crossing.batch_size,
    )


def _ring(crossing: Crossing, x: Log, y: Log) -> Markup:
    return tag("circle", cx=x(crossing.batch_size), cy=y(crossing.seconds), r=7, class_="ring")


def _said(found: list[Crossing], lines: list[list[Row]]) -> str:
    """Say in words what crosses."""
    words = []
    for crossing in found:
        first, second = crossing.first, crossing.second
        faster = (
            f"{second.device} is the faster for gpubp"
            if crossing.devices
            else f"{second.contender} is faster than {first.contender} on {first.device}"
        )
        words.append(f"From a batch of about {crossing.batch_size:.0f} on, {faster}.")
    ours = [members for members in lines if members[0].contender == OURS]
    alike = len({tuple(row.task.batch_size for row in members) for members in ours}) == 1
    if len(ours) > 1 and alike and not any(crossing.devices for crossing in found):
        best = min(ours, key=lambda members: members[0].median)[0]
        words.append(f"At every batch size, {best.device} is the faster for gpubp.")
    return " ".join(words)
