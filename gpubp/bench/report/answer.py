"""The answer that the page begins with: a sentence, and a picture of what it is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gpubp.bench.report import parts, units
from gpubp.bench.report.markup import Markup, tag
from gpubp.bench.report.picture import WIDTH, figure, gallery, line, text, x_axis
from gpubp.bench.report.result import Result
from gpubp.bench.report.scales import Log
from gpubp.bench.report.standing import Standing, compare, standings

_LEFT, _RIGHT, _ROW = 112, 48, 22
_WORDS = ("faster", "even", "slower", "unclear", "one sample")
_BESIDE = (
    "A training step of gpubp beside the best other library on the same device. A dot is the ratio "
    "of their times, the bar through it its interval of 95 %: left of the line gpubp is the faster."
)
_ALONE = "Times of a training step of gpubp; the bar is the interval of 95 %."


@dataclass(frozen=True)
class Case:
    """What a row of the picture shows: gpubp's time, beside the best peer's if there is one."""

    standing: Standing
    value: float
    interval: tuple[float, float]
    said: str
    verdict: str


def cases(result: Result) -> list[Case]:
    """Return the cases: all that have a peer, or if none has, all."""
    known = [standing for standing in standings(result, ("step",)) if standing.ours]
    found = []
    for standing in known:
        ours, peer = standing.ours, standing.peer
        if ours is not None and peer is not None:
            ratio = compare(ours, peer)
            ends = ratio.interval or (ratio.value, ratio.value)
            said = units.ratio(ratio.value)
            found.append(Case(standing, ratio.value, ends, said, ratio.verdict))
    if found:
        return found
    return [
        Case(s, ours.median, ours.interval or (ours.median,) * 2, units.seconds(ours.median), "")
        for s in known
        if (ours := s.ours) is not None
    ]


def sentence(found: Sequence[Case]) -> str:
    """Return the answer in words; the empty text where gpubp was not timed."""
    if not found:
        return ""
    ends = [min(found, key=lambda case: case.value).said]
    ends += [max(found, key=lambda case: case.value).said]
    spread = " to ".join(dict.fromkeys(ends))
    if not found[0].verdict:
        return f"A training step of gpubp takes {spread} here."
    counts = Counter(case.verdict for case in found)
    if len(found) == 1:
        return f"gpubp takes {spread} of the best other library’s time: {found[0].verdict}."
    words = [f"{word} in {counts[word]}" for word in _WORDS if counts[word]]
    words[0] += f" of {len(found)} cases"
    return f"gpubp takes {spread} of the best other library’s time: {', '.join(words)}."


def pictures(found: Sequence[Case], *, devices: bool) -> Markup | None:
    """Return a picture for each network; None where there is nothing to draw."""
    if not found:
        return None
    beside = bool(found[0].verdict)
    ends = [end for case in found for end in case.interval] + [1.0] * beside
    scale = Log.around(ends, _LEFT, WIDTH - _RIGHT)
    networks: dict[str, list[Case]] = {}
    for case in found:
        task = case.standing.task
        networks.setdefault(f"{task.network}, {task.precision}", []).append(case)
    figures = (
        _figure(network, members, scale, beside=beside, devices=devices)
        for network, members in networks.items()
    )
    return tag(
        "div",
        tag("p", _BESIDE if beside else _ALONE, class_="lead"),
        gallery(figures),
        class_="answer",
    )


def _figure(
    network: str, members: Sequence[Case], scale: Log, *, beside: bool, devices: bool
) -> Markup:
    bottom = _ROW * len(members) + 4
    if beside:
        axis = x_axis(scale, 0, bottom, units.ratio, scale.ticks(5))
        one = line(scale(1.0), 0, scale(1.0), bottom, "one")
    else:
        axis = x_axis(scale, 0, bottom, lambda value: units.tick(value, "s"), scale.ticks(4))
        one = None
    rows = [_row(case, _ROW * index, scale, devices) for index, case in enumerate(members)]
    label = f"gpubp on {network}: " + "; ".join(
        f"{_place(case, devices)} {case.said} {case.verdict}".strip() for case in members
    )
    ours = [case.standing.ours for case in members]
    caption = parts.checked(row for row in ours if row is not None)
    return figure(network, label, bottom + 20, axis, one, *rows, caption=caption)


def _row(case: Case, top: float, scale: Log, devices: bool) -> Markup:
    middle, (low, high) = top + 14, map(scale, case.interval)
    peer = case.standing.peer
    beside = f" beside {peer.contender}" if peer is not None else ""
    return tag(
        "g",
        tag("title", f"{_place(case, devices)}: {case.said}{beside}"),
        text(_LEFT - 8, middle + 4, _place(case, devices), None, "end"),
        line(low, middle, high, middle, "whisker"),
        tag("circle", cx=scale(case.value), cy=middle, r=4, class_="mark"),
        text(WIDTH, middle + 4, case.said, "value", "end"),
        data_verdict=case.verdict or None,
    )


def _place(case: Case, devices: bool) -> str:
    return f"{case.standing.task.batch_size} rows" + f", {case.standing.device}" * devices
