"""Pictures: the frame, the axes and the caption that all of them share.

A picture is 360 units wide, which is a phone, and stands in a grid on wider screens: its letters
keep their size, and none of them is drawn twice. Its numbers are in titles for people and in data
attributes for machines; the same numbers stand in a table on the page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gpubp.bench.report.markup import Attribute, Markup, join, tag
from gpubp.bench.report.scales import Log

WIDTH = 360


def figure(
    heading: str, label: str, height: float, *parts: Markup | None, caption: Markup
) -> Markup:
    """Return a picture with its heading above and what it shows, in words, below.

    Args:
        heading: what the picture is of.
        label: what a reader who does not see it is told.
        height: in units; the width is :data:`WIDTH`.
        parts: what is drawn, back to front.
        caption: what it says, as phrasing content.
    """
    drawn = tag(
        "svg", *parts, class_="picture", role="img", aria_label=label,
        viewBox=f"0 0 {WIDTH} {height:g}",
    )  # fmt: skip
    return tag("figure", tag("h3", heading), drawn, tag("figcaption", caption))


def gallery(figures: Iterable[Markup]) -> Markup:
    """Return pictures side by side, as many as fit."""
    return tag("div", join(figures), class_="gallery")


def line(x1: float, y1: float, x2: float, y2: float, class_: str, **more: Attribute) -> Markup:
    """Return a straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_, **more)


def text(
    x: float, y: float, words: str, class_: str | None = None, anchor: str | None = None
) -> Markup:
    """Return a line of text; ``anchor`` is "middle" or "end" where it does not start at x."""
    return tag("text", words, x=round(x, 1), y=round(y, 1), class_=class_, text_anchor=anchor)


def x_axis(
    scale: Log, top: float, bottom: float, write: Callable[[float], str], ticks: list[float]
) -> Markup:
    """Return vertical grid lines with a label under each."""
    return join(
        join((line(x, top, x, bottom, "grid"), text(x, bottom + 14, write(tick), None, "middle")))
        for tick, x in ((tick, scale(tick)) for tick in ticks)
    )


def y_axis(
    scale: Log, left: float, right: float, write: Callable[[float], str], ticks: list[float]
) -> Markup:
    """Return horizontal grid lines with a label left of each."""
    return join(
        join((line(left, y, right, y, "grid"), text(left - 6, y + 3.5, write(tick), None, "end")))
        for tick, y in ((tick, scale(tick)) for tick in ticks)
    )
