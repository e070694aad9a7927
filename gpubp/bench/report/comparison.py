"""This run beside an earlier one: ratio, effect size and a test, and what they amount to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpubp.bench import statistics
from gpubp.bench.report import parts, units
from gpubp.bench.report.looks import Looks
from gpubp.bench.report.markup import Markup, data, join, tag
from gpubp.bench.report.picture import WIDTH, figure, gallery, line, text, x_axis
from gpubp.bench.report.result import Result, Row
from gpubp.bench.report.scales import Log
from gpubp.bench.report.standing import Ratio
from gpubp.bench.report.verdict import PHASES

LEVEL = 0.01  # of the test: one comparison in a hundred errs, and a report makes dozens
_SIZES = ((0.147, "negligible"), (0.33, "small"), (0.474, "medium"))  # Romano et al., 2006
_STRIP, _MARGIN, _APART = 34, 12, 24
_VERDICTS = ("faster", "slower", "no difference", "too few samples")
_LEAD = (
    "Ratio: median now to median then, with a bootstrap interval of 95 %; below 1, this run is "
    "faster. Effect: Cliff’s delta, from −1 (every sample now is below every one then) to 1. "
    f"p: two-sided Mann-Whitney test; a difference counts as one where p is below {LEVEL:g}."
)


@dataclass(frozen=True)
class Change:
    """A row of this run, the same one of the earlier run, and how they compare."""

    now: Row
    then: Row
    ratio: Ratio
    effect: float | None
    p: float | None

    @property
    def verdict(self) -> str:
        """Say in a word whether this run is faster, slower, or not to be told from the other."""
        counts = len(self.now.samples), len(self.then.samples)
        if self.p is None or 2 / math.comb(sum(counts), counts[0]) >= LEVEL:
            return "too few samples"  # no order of them has a smaller p
        if self.p >= LEVEL:
            return "no difference"
        return "faster" if self.ratio.value < 1 else "slower"

    @property
    def words(self) -> str:
        """Say it in words: by how much, and how large the effect is."""
        if self.verdict not in parts.SIGNS or self.effect is None:
            return self.verdict
        size = next((name for most, name in _SIZES if abs(self.effect) < most), "large")
        value = self.ratio.value
        much = f"by {units.percent(abs(value - 1))}" if value < 2 else f"{value:.3g} times as long"
        return f"{self.verdict}, {much}, {size} effect"


def section(result: Result, earlier: Result, looks: Looks) -> parts.Section:
    """Return the section; it says so where the two runs have nothing in common."""
    found = changes(result, earlier)
    differing = _environment(result.environment, earlier.environment)
    if not found:
        words = "The earlier run timed nothing that this one did, so there is nothing to compare."
        return parts.section("comparison", "Since the earlier run", parts.lead(words), differing)
    counts = Counter(change.verdict for change in found)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _VERDICTS if counts[verdict])
    total = f"Of {parts.plural(len(found), 'figure')} that both runs have: {summary}. "
    drift = _drift(found)
    differ = [change for change in found if change.verdict in parts.SIGNS]
    same = [change for change in found if change.verdict not in parts.SIGNS]
    tables = (
        parts.folded(
            f"{name}: {len(changed)}",
            _table(name, changed, looks),
            unfolded=changed is differ,
            printed=changed is differ,
        )
        for name, changed in (("What differs", differ), ("No difference to be seen", same))
        if changed
    )
    return parts.section(
        "comparison", "Since the earlier run", parts.lead(_LEAD),
        tag("p", tag("strong", total), drift), _gallery(found, looks), *tables, differing,
    )  # fmt: skip


def changes(result: Result, earlier: Result) -> list[Change]:
    """Return what both runs have, in the order of this one."""
    known = {row.key: row for row in earlier.rows}
    pairs = ((row, known[row.key]) for row in result.rows if row.key in known and not row.floor)
    return [_change(now, then) for now, then in pairs if now.median > 0 and then.median > 0]


def _change(now: Row, then: Row) -> Change:
    value = now.median / then.median
    if min(len(now.samples), len(then.samples)) < 2:
        return Change(now, then, Ratio(value, None), None, None)
    found = statistics.difference(now.samples, then.samples)
    ratio = Ratio(value, (found.ratio.low, found.ratio.high))
    return Change(now, then, ratio, found.effect, found.p)


def _drift(found: list[Change]) -> str | None:
    """Say how the other libraries' times moved: that is the machine, if their versions stayed."""
    ratios = [change.ratio.value for change in found if change.now.peer]
    if not ratios:
        return None
    return (
        f"The other libraries take {units.ratio(float(np.median(ratios)))} times as long as then "
        "(median of the ratios): so much is the machine, if their versions are the same."
    )


def _table(caption: str, found: list[Change], looks: Looks) -> Markup:
    columns = ["What", "Now|interval", "Then|interval", "Ratio|interval", "Effect|p"]
    groups: dict[str, list[Markup]] = {}
    for change in found:
        task = change.now.task
        groups.setdefault(f"{task.network}, {task.precision}", []).append(_row(change, looks))
    bodies = (
        tag("tbody", parts.group(heading, len(columns)), *rows) for heading, rows in groups.items()
    )
    return parts.table(caption, columns, *bodies)


def _row(change: Change, looks: Looks) -> Markup:
    now, effect = change.now, parts.number(parts.NONE)
    if change.effect is not None and change.p is not None:
        p = tag("small", data(change.p, units.short(change.p)))
        effect = parts.number(data(change.effect, f"{change.effect:+.2f}"), p)
    name = tag("span", looks.of(now).swatch(), _what(change, looks), class_="name")
    return tag(
        "tr",
        tag("th", name, parts.verdict(change.verdict, change.words), scope="row"),
        parts.time_cell(now),
        parts.time_cell(change.then),
        parts.ratio_cell(change.ratio),
        effect,
        data_row=now.index,
        data_then=change.then.index,
    )


def _gallery(found: list[Change], looks: Looks) -> Markup:
    """Return a picture of gpubp's ratios for each network."""
    groups: dict[str, list[Change]] = {}
    for change in found:
        if change.now.ours and change.now.phase in PHASES:
            task = change.now.task
            groups.setdefault(f"{task.network}, {task.precision}", []).append(change)
    return gallery(_figure(heading, members, looks) for heading, members in groups.items())


def _figure(heading: str, found: list[Change], looks: Looks) -> Markup:
    """Return ratios, one above the other, around 1."""
    values = [v for c in found for v in (c.ratio.value, *(c.ratio.interval or ()), 1.0)]
    scale = Log.around(values, _MARGIN, WIDTH - _MARGIN)
    bottom = _STRIP * len(found) + 4
    one = scale(1)
    ticks = [tick for tick in scale.ticks(5) if abs(scale(tick) - one) > _APART]
    rows = (_strip(change, index * _STRIP, scale, looks) for index, change in enumerate(found))
    said = "; ".join(f"{_what(c, looks)} {units.ratio(c.ratio.value)}" for c in found)
    caption = "Left of the strong line this run is faster, right of it slower. "
    return figure(
        heading,
        f"Time now to time then of {heading}: {said}",
        bottom + 20,
        x_axis(scale, 0, bottom, lambda value: f"{value:g}", [1.0, *ticks]),
        line(one, 0, one, bottom, "one"),
        *rows,
        caption=join((caption, parts.checked(change.now for change in found))),
    )


def _what(change: Change, looks: Looks) -> str:
    now = change.now
    return f"batch {now.task.batch_size}, {now.phase}, {looks.label(now)}"


def _strip(change: Change, top: float, scale: Log, looks: Looks) -> Markup:
    look, x, middle = looks.of(change.now), scale(change.ratio.value), top + 25
    value, bar = units.ratio(change.ratio.value), None
    if change.ratio.interval:
        low, high = map(scale, change.ratio.interval)
        bar = line(low, middle, high, middle, "whisker")
    return tag(
        "g",
        tag("title", f"{_what(change, looks)}: {value}, {change.words}"),
        text(_MARGIN, top + 13, _what(change, looks)),
        text(WIDTH - _MARGIN, top + 13, value, "value", "end"),
        bar,
        look.mark(x, middle),
        class_=look.colour,
        data_row=change.now.index,
        data_ratio=change.ratio.value,
    )


def _environment(now: Mapping[str, Any], then: Mapping[str, Any]) -> Markup:
    """Say what else differs: only if nothing does is this a comparison of gpubp alone."""
    old, new = _flat(then), _flat(now)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    names = [name for name in names if name not in ("date", "load")]
    if not names:
        return tag("p", "Both runs are of the same machine and the same versions.")
    rows = (
        tag("tr", tag("th", name, scope="row"),
            *(tag("td", str(side.get(name, parts.NONE))) for side in (old, new)))
        for name in names
    )  # fmt: skip
    return parts.table("What changed around it", ["What", "Then", "Now"], tag("tbody", join(rows)))


def _flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment with its tables of versions opened."""
    flat: dict[str, Any] = {}
    for name, value in environment.items():
        flat |= value if isinstance(value, Mapping) else {name: value}
    return flat
