"""What a step consists of: its kernel calls, one after the other, and what each costs."""

from __future__ import annotations

from itertools import accumulate

from gpubp.bench.report import parts, units
from gpubp.bench.report.markup import Markup, data, join, tag
from gpubp.bench.report.result import Breakdown, Call, Result
from gpubp.kernels.spec import KERNELS

_OTHER = "other"  # a kernel that this version does not know
_ROOM = 0.06  # of the bar, for a number to stand in
_LEAD = (
    "The kernel calls of one training step, timed one by one, in the order in which they run. The "
    "bar is the step; a call’s width is its share of the time, its number that of the table."
)


def section(result: Result) -> parts.Section | None:
    """Return the section, or None if no step was traced."""
    known = [b for b in result.breakdowns if b.calls and sum(c.seconds for c in b.calls) > 0]
    if not known:
        return None
    kinds = dict.fromkeys(family(call.kernel) for found in known for call in found.calls)
    legend = tag("ul", *map(_legend_item, kinds), class_="legend")
    steps = (_step(index, found) for index, found in enumerate(result.breakdowns) if found in known)
    return parts.section("breakdown", "Inside a step", parts.lead(_LEAD), legend, *steps)


def family(kernel: str) -> str:
    """Return the family that a kernel's contract puts it in."""
    return KERNELS[kernel].family if kernel in KERNELS else _OTHER


def _legend_item(kind: str) -> Markup:
    swatch = tag(
        "svg", tag("rect", width=12, height=12, rx=2, class_=f"call {kind}"),
        class_="swatch", width=12, height=12, aria_hidden="true",
    )  # fmt: skip
    return tag("li", swatch, kind)


def _step(index: int, found: Breakdown) -> Markup:
    total = sum(call.seconds for call in found.calls)
    heading = f"{parts.task_words(found.task)} on {found.device}"
    columns = ["Call", "Time", "Share", "Rate"]
    rows = (_row(number, call, total) for number, call in enumerate(found.calls, 1))
    made = parts.table("The calls", columns, tag("tbody", join(rows)), kind="calls")
    count = parts.plural(len(found.calls), "call")
    summary = tag("summary", f"{count}, {units.seconds(total)} in all: formulas and rates")
    shares: dict[str, float] = {}
    for call in found.calls:
        kind = family(call.kernel)
        shares[kind] = shares.get(kind, 0.0) + call.seconds / total
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    words = ", ".join(f"{kind} {units.percent(share)}" for kind, share in ordered)
    return tag(
        "figure",
        tag("h3", heading),
        _bar(found, total, f"Shares of a step of {heading}: {words}"),
        tag("figcaption", f"{words[:1].upper()}{words[1:]}."),
        tag("details", summary, made),
        class_="wide",
        data_breakdown=index,
    )


def _bar(found: Breakdown, total: float, label: str) -> Markup:
    """Return the stacked bar; in percent, so that it is as wide as the page."""
    ends = list(accumulate((call.seconds / total for call in found.calls), initial=0.0))
    segments = (
        _segment(number, call, ends[number - 1], ends[number])
        for number, call in enumerate(found.calls, 1)
    )
    return tag("svg", *segments, class_="bar", height=34, role="img", aria_label=label)


def _segment(number: int, call: Call, start: float, end: float) -> Markup:
    share = end - start
    words = f"{number}. {call.formula}: {units.seconds(call.seconds)}, {units.percent(share)}"
    label = None
    if share > _ROOM:
        label = tag(
            "text", str(number), x=_percent((start + end) / 2), y=22, text_anchor="middle",
        )  # fmt: skip
    place = {"x": _percent(start), "width": _percent(share)}
    return tag(
        "g",
        tag("title", words),
        tag("rect", y=1, height=32, class_=f"call {family(call.kernel)}", **place),
        label,
        data_call=number - 1,
        data_seconds=call.seconds,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3f}%"


def _row(number: int, call: Call, total: float) -> Markup:
    rates = [
        units.quantity(amount / call.seconds, unit)
        for amount, unit in ((call.flops, "FLOP/s"), (call.bytes, "B/s"))
        if amount and call.seconds > 0
    ]
    formula = tag("span", call.formula or call.kernel, class_="formula")
    return tag(
        "tr",
        tag("th", f"{number}. ", formula, tag("small", call.kernel), scope="row"),
        parts.number(data(call.seconds, units.seconds(call.seconds))),
        parts.number(units.percent(call.seconds / total)),
        parts.number(*(rates or [parts.NONE])),
        data_call=number - 1,
    )
