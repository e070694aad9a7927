"""Memory: what training holds, by what it is for, and the peak of the process."""

from __future__ import annotations

from itertools import accumulate, pairwise

from gpubp.bench.report import parts, units
from gpubp.bench.report.markup import Markup, data, join, tag
from gpubp.bench.report.result import Memory, Result

_PEAK = "peak process"  # not a part: interpreter and libraries are in it too
_LEAD = (
    "What a training holds, by what it is for. The peak of the process is what the system counted, "
    "interpreter and libraries included, so it is more than the sum."
)


def section(result: Result) -> parts.Section | None:
    """Return the section, or None if no memory was measured."""
    if not result.memory:
        return None
    names = dict.fromkeys(name for found in result.memory for name in _parts(found))
    colours = {name: f"part{index % 6}" for index, name in enumerate(names)}
    cards = (_card(index, found, colours) for index, found in enumerate(result.memory))
    gallery = tag("div", join(cards), class_="gallery")
    return parts.section("memory", "Memory", parts.lead(_LEAD), gallery)


def _parts(found: Memory) -> dict[str, float]:
    return {name: size for name, size in found.bytes.items() if name != _PEAK}


def _card(index: int, found: Memory, colours: dict[str, str]) -> Markup:
    sizes = _parts(found)
    total = sum(sizes.values())
    precision = f", {found.precision}" if found.precision else ""
    heading = f"{found.network}, batch {found.batch_size}{precision} on {found.device}"
    rows = [_row(name, size, total, colours[name]) for name, size in sizes.items()]
    feet = [_foot("sum", total)]
    if _PEAK in found.bytes:
        feet.append(_foot("peak of the process", found.bytes[_PEAK]))
    made = parts.table(
        tag("span", "Bytes by use", class_="hidden"), ["Use", "Size", "Share"],
        tag("tbody", *rows), tag("tfoot", *feet),
    )  # fmt: skip
    return tag(
        "figure", tag("h3", heading), _bar(heading, sizes, total, colours) if total else None,
        made, class_="card", data_memory=index,
    )  # fmt: skip


def _bar(heading: str, sizes: dict[str, float], total: float, colours: dict[str, str]) -> Markup:
    ends = pairwise(accumulate((size / total for size in sizes.values()), initial=0.0))
    segments = (
        tag(
            "rect", tag("title", f"{name}: {units.size(size)}"), y=1, height=18,
            x=f"{100 * start:.3f}%", width=f"{100 * (end - start):.3f}%",
            class_=f"call {colours[name]}",
        )
        for (name, size), (start, end) in zip(sizes.items(), ends, strict=True)
    )  # fmt: skip
    words = ", ".join(f"{name} {units.percent(size / total)}" for name, size in sizes.items())
    label = f"Shares of the memory of {heading}: {words}"
    return tag("svg", *segments, class_="bar", height=20, role="img", aria_label=label)


def _row(name: str, size: float, total: float, colour: str) -> Markup:
    swatch = tag(
        "svg", tag("rect", width=12, height=12, rx=2, class_=f"call {colour}"), class_="swatch",
        width=12, height=12, aria_hidden="true",
    )  # fmt: skip
    share = units.percent(size / total) if total else parts.NONE
    head = tag("th", tag("span", swatch, name, class_="name"), scope="row")
    return tag("tr", head, parts.number(data(size, units.size(size))), parts.number(share))


def _foot(name: str, size: float) -> Markup:
    return tag(
        "tr", tag("th", name, scope="row"), parts.number(data(size, units.size(size))), tag("td")
    )
