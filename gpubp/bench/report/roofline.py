"""The roofline: what was achieved, under what the device can do at most, by precision."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpubp.bench import limits
from gpubp.bench.report import parts, units
from gpubp.bench.report.looks import Looks
from gpubp.bench.report.markup import Markup, data, join, tag
from gpubp.bench.report.picture import WIDTH, figure, gallery, line, text, x_axis, y_axis
from gpubp.bench.report.result import Result, Roof, Row
from gpubp.bench.report.scales import Log

_LEFT, _RIGHT, _TOP, _BOTTOM = 76, WIDTH - 10, 14, 226
_HEIGHT = 262
_SLOPE = 8  # the axis goes on so far, as a factor, left of a ridge
_LEAD = (
    "Each point is a phase of a step or a whole one: how many operations it does for each byte "
    "that it moves, and how many a second; small marks are phases. Nothing can be above the roof, "
    "which was measured on this device in this run: on the left what the caches and, dashed, main "
    "memory feed, on the right what the largest matrix product reaches. A point far below waits "
    "for calls, or leaves cores idle."
)


@dataclass(frozen=True)
class Roofs:
    """The roofs of a device in a precision; copies of small arrays stay in a cache."""

    gemm: Roof | None
    cache: Roof | None
    memory: Roof | None

    def above(self, intensity: float) -> float | None:
        """Return the most operations a second at so many operations a byte."""
        known = [self.gemm.value] if self.gemm else []
        if self.cache:
            known.append(self.cache.value * intensity)
        return min(known, default=None)


@dataclass(frozen=True)
class Point:
    """What a row achieved."""

    row: Row
    intensity: float
    rate: float


def section(result: Result, looks: Looks) -> parts.Section | None:
    """Return the section, or None if no roof was measured or no operation counted."""
    groups: dict[tuple[str, str], list[Point]] = {}
    for row in result.rows:
        if row.flops and row.bytes and row.median > 0 and row.phase != "epoch":
            point = Point(row, row.flops / row.bytes, row.flops / row.median)
            groups.setdefault((row.device, row.task.precision), []).append(point)
    drawn = [
        (*key, roofs, points)
        for key, points in groups.items()
        if (roofs := _roofs(result, *key)).gemm or roofs.cache
    ]
    if not drawn:
        return None
    legend = looks.legend(point.row for *_, points in drawn for point in points)
    pictures = gallery(_figure(*group, looks) for group in drawn)
    tables = (_table(*group, looks) for group in drawn)
    return parts.section(
        "roofline", "Roofline", parts.lead(_LEAD), legend, pictures, *tables, _gaps(result)
    )


def _roofs(result: Result, device: str, precision: str) -> Roofs:
    fitting = [r for r in result.roofs if r.device == device and r.precision in (precision, None)]
    gemms = [roof for roof in fitting if roof.kind == "gemm"]
    copies = [roof for roof in fitting if roof.kind == "copy"]
    return Roofs(
        gemm=max(gemms, key=lambda roof: roof.value, default=None),
        cache=max(copies, key=lambda roof: roof.value, default=None),
        memory=max(copies, key=lambda roof: roof.bytes or 0, default=None),
    )


def _figure(device: str, precision: str, roofs: Roofs, points: list[Point], looks: Looks) -> Markup:
    ridge = [roofs.gemm.value / c.value for c in (roofs.cache, roofs.memory) if c and roofs.gemm]
    slopes = [at / _SLOPE for at in ridge]
    x = Log.around([*(p.intensity for p in points), *ridge, *slopes], _LEFT, _RIGHT, least=30)
    highest = [limit for at in (x.low, x.high) if (limit := roofs.above(at))]
    y = Log.around([p.rate for p in points] + highest[-1:], _BOTTOM, _TOP, least=30)
    outside = [point for point in points if not _below(point, roofs)]
    heading = f"{device}, {precision}"
    said = _said(roofs)
    label = f"Roofline of {heading}: {said}; {parts.plural(len(points), 'point')}"
    words = f"{said[:1].upper()}{said[1:]}. "
    verdict = (
        tag("span", f"{parts.CROSS} {parts.plural(len(outside), 'point')} above the roof: wrong "
            "units or counts, or a roof measured too low.", class_="wrong")
        if outside
        else f"All {parts.plural(len(points), 'point')} below the roof."
    )  # fmt: skip
    return figure(
        heading,
        label,
        _HEIGHT,
        x_axis(x, _TOP, _BOTTOM, lambda value: f"{value:g}", x.ticks()),
        y_axis(y, _LEFT, _RIGHT, lambda value: units.tick(value, "FLOP/s"), y.ticks(5)),
        text((_LEFT + _RIGHT) / 2, _HEIGHT - 6, "operations a byte", "axis", "middle"),
        _memory_line(roofs, x, y),
        _roof_line(roofs, x, y),
        *(_mark(point, x, y, looks, point in outside) for point in points),
        caption=join((words, verdict, " ", parts.checked(point.row for point in points))),
    )


def _below(point: Point, roofs: Roofs) -> bool:
    limit = roofs.above(point.intensity)
    return limit is None or point.rate <= limits.SLACK * limit


def _roof_line(roofs: Roofs, x: Log, y: Log) -> Markup:
    """Return the roof with the names of its two sides."""
    cap = roofs.gemm.value if roofs.gemm else None
    named = None
    if roofs.gemm:
        named = text(_RIGHT - 2, y(roofs.gemm.value) - 5, _gemm_words(roofs.gemm), "roof", "end")
    slope = _slope(roofs.cache, cap, x, y, "roof") if roofs.cache else None
    flat = None
    if roofs.gemm:
        start = roofs.gemm.value / roofs.cache.value if roofs.cache else x.low
        height = y(roofs.gemm.value)
        flat = line(x(start), height, _RIGHT, height, "roof", data_roof=roofs.gemm.index)
    return join((slope, flat, named))


def _memory_line(roofs: Roofs, x: Log, y: Log) -> Markup | None:
    """Return the lower roof, for what does not fit into a cache, where it is another one."""
    if roofs.memory is None or roofs.memory is roofs.cache:
        return None
    return _slope(roofs.memory, roofs.gemm.value if roofs.gemm else None, x, y, "roof memory")


def _slope(roof: Roof, cap: float | None, x: Log, y: Log, class_: str) -> Markup:
    """Return the line of a copy, where operations are bound by bytes, with its name along it."""
    start = max(x.low, y.low / roof.value)
    end = min(x.high, (cap or y.high) / roof.value)
    x1, y1, x2, y2 = x(start), y(start * roof.value), x(end), y(end * roof.value)
    angle = math.degrees(math.atan2(y2 - y1, x2 - x1))
    name = tag(
        "text", _copy_words(roof), class_="roof", x=6, y=-5,
        transform=f"translate({x1} {y1}) rotate({angle:.1f})",
    )  # fmt: skip
    return join((line(x1, y1, x2, y2, class_, data_roof=roof.index), name))


def _mark(point: Point, x: Log, y: Log, looks: Looks, outside: bool) -> Markup:
    row, look = point.row, looks.of(point.row)
    words = (
        f"{look.label}, {row.phase} of {parts.task_words(row.task)}: "
        f"{units.quantity(point.rate, 'FLOP/s')} at {point.intensity:.3g} operations a byte"
    )
    across, down = x(point.intensity), y(point.rate)
    mark = look.mark(
        across, down, tag("title", words), size=1.0 if row.phase == "step" else 0.65,
        data_row=row.index, data_median=row.median, data_rate=point.rate,
        data_intensity=point.intensity,
    )  # fmt: skip
    ring = tag("circle", cx=across, cy=down, r=9, class_="ring wrong") if outside else None
    return join((mark, ring))


def _table(device: str, precision: str, roofs: Roofs, points: list[Point], looks: Looks) -> Markup:
    """Return the points as numbers, which a picture cannot be read for."""
    columns = ["Point", "Operations a byte", "Rate", "Of the roof above"]
    body = tag("tbody", *(_row(point, roofs, looks) for point in points))
    made = parts.table(f"Points of {device}, {precision}", columns, body)
    return parts.folded(
        f"{device}, {precision}: the points as a table", made, unfolded=False, printed=False
    )


def _row(point: Point, roofs: Roofs, looks: Looks) -> Markup:
    row, limit = point.row, roofs.above(point.intensity)
    name = tag("span", looks.of(row).swatch(), f"{row.contender}, {row.phase}", class_="name")
    return tag(
        "tr",
        tag("th", name, tag("small", parts.task_words(row.task)), scope="row"),
        parts.number(data(point.intensity, f"{point.intensity:.3g}")),
        parts.number(data(point.rate, units.quantity(point.rate, "FLOP/s"))),
        parts.number(units.percent(point.rate / limit) if limit else parts.NONE),
    )


def _said(roofs: Roofs) -> str:
    words = [_gemm_words(roofs.gemm)] if roofs.gemm else []
    words += [_copy_words(roof) for roof in dict.fromkeys((roofs.cache, roofs.memory)) if roof]
    return ", ".join(words)


def _gemm_words(roof: Roof) -> str:
    return f"product {units.quantity(roof.value, 'FLOP/s')}"


def _copy_words(roof: Roof) -> str:
    of = f" of {units.size(roof.bytes)}:" if roof.bytes else ""
    return f"copy{of} {units.quantity(roof.value, 'B/s')}"


def _gaps(result: Result) -> Markup | None:
    """Say what a call costs that has nothing to do: the third roof, which no picture shows."""
    gaps = [roof for roof in result.roofs if roof.kind == "call"]
    if not gaps:
        return None
    words = ", ".join(f"{units.seconds(roof.value)} on {roof.device}" for roof in gaps)
    return tag("p", f"A call with next to nothing to do takes {words}.")
