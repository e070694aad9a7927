"""Distribution strips: every sample as a dot, with the median and its interval."""

from __future__ import annotations

from gpubp.bench.report import parts, units
from gpubp.bench.report.looks import Looks
from gpubp.bench.report.markup import Markup, tag
from gpubp.bench.report.picture import WIDTH, figure, gallery, line, text, x_axis
from gpubp.bench.report.result import Result, Row
from gpubp.bench.report.scales import Log
from gpubp.bench.report.standing import Standing, standings

_MARGIN, _STRIP, _BAND = 10, 42, 13
_GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, fill the band evenly
_UNFOLDED = 6  # so many pictures at most are not folded at first
_LEAD = (
    "One dot is one round. The bar is the interval of the median, the line through it the median. "
    "A long tail to the right is other load on the machine; two clouds are two ways that the same "
    "work can go."
)


def section(result: Result, looks: Looks) -> parts.Section | None:
    """Return the section, or None if no samples were kept."""
    known = [s for s in standings(result, ("step",)) if any(row.samples for row in s.rows)]
    if not known:
        return None
    groups: dict[str, list[Standing]] = {}
    for standing in known:
        key = f"{standing.task.network}, {standing.task.precision} on {standing.device}"
        groups.setdefault(key, []).append(standing)
    galleries = (
        parts.folded(
            f"{heading}: {parts.plural(len(members), 'batch size')}",
            gallery(_figure(standing, looks) for standing in members),
            unfolded=len(known) <= _UNFOLDED,
        )
        for heading, members in groups.items()
    )
    return parts.section("samples", "Spread of the samples", parts.lead(_LEAD), *galleries)


def _figure(standing: Standing, looks: Looks) -> Markup:
    rows = [row for row in standing.rows if row.samples]
    scale = Log.around(
        [value for row in rows for value in (row.median, *row.samples, *(row.interval or ()))],
        _MARGIN,
        WIDTH - _MARGIN,
    )
    bottom = _STRIP * len(rows) + 4
    axis = x_axis(scale, 0, bottom, lambda value: units.tick(value, "s"), scale.ticks(5))
    strips = [_strip(row, i * _STRIP, scale, looks) for i, row in enumerate(rows)]
    task = standing.task
    label = f"Samples of a step of {parts.task_words(task)} on {standing.device}: " + "; ".join(
        f"{row.contender} {units.seconds(row.median)}, {parts.plural(len(row.samples), 'sample')}"
        for row in rows
    )
    caption = parts.checked(rows)
    return figure(f"Batch {task.batch_size}", label, bottom + 20, axis, *strips, caption=caption)


def _strip(row: Row, top: float, scale: Log, looks: Looks) -> Markup:
    look = looks.of(row)
    middle, x = top + 28, scale(row.median)
    said = units.seconds(row.median)
    dots = "".join(
        f"M{scale(sample)} {middle + _BAND * (i * _GOLDEN % 1 - 0.5):.1f}h0"
        for i, sample in enumerate(row.samples)
    )
    bar = None
    if row.interval:
        low, high = map(scale, row.interval)
        bar = tag(
            "rect", x=low, y=middle - 4, width=round(max(high - low, 1), 1), height=8, rx=1.5,
            class_="band",
        )  # fmt: skip
        said += f", interval {units.between(*row.interval, row.median)}"
    return tag(
        "g",
        tag("title", f"{row.contender}: {said}, {parts.plural(len(row.samples), 'sample')}"),
        look.mark(_MARGIN + 4, top + 10),
        text(_MARGIN + 14, top + 14, row.contender, "strong" if row.ours else None),
        text(WIDTH - _MARGIN, top + 14, units.seconds(row.median), "value", "end"),
        bar,
        tag("path", d=dots, class_="dots"),
        line(x, middle - 9, x, middle + 9, "median"),
        class_=look.colour,
        data_row=row.index,
        data_median=row.median,
        data_count=len(row.samples),
    )
