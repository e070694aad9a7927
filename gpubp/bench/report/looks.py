"""How a contender looks on every page: its colour, its shape, and the dash of its device.

A colour alone never carries meaning: each contender has a shape of its own, and a second device is
drawn hollow and dashed. The colours themselves are in ``style.css``, for light and dark.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gpubp.bench.report.markup import Attribute, Markup, join, tag
from gpubp.bench.report.result import Row

# By what a name begins with, so that a library has its colour in every report.
_FAMILIES = ("gpubp", "torch eager", "torch.compile", "torch graph", "jax", "scikit-learn", "floor")
_COLOURS = len(_FAMILIES) + 3
_SHAPES = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",  # circle
    "M-3.5,-3.5h7v7h-7z",  # square
    "M0,-5L4.6,3.4H-4.6z",  # triangle
    "M0,-5L5,0L0,5L-5,0z",  # diamond
    "M0,5L4.6,-3.4H-4.6z",  # triangle, point down
    "M0,-5L4.8,-1.5L2.9,4.1H-2.9L-4.8,-1.5z",  # pentagon
    "M-1.6,-5h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4v-3.2h3.4z",  # plus
    "M-5,-3L5,-3L2.5,3L-2.5,3z",  # trapezium
    "M-5,-2L5,-2L5,2L-5,2z",  # bar
    "M-2,-5L2,-5L2,5L-2,5z",  # post
)


@dataclass(frozen=True)
class Look:
    """The looks of a contender on a device."""

    label: str
    colour: str
    shape: str
    other_device: bool

    @property
    def classes(self) -> str:
        """The classes of its lines and marks."""
        return f"{self.colour} hollow" if self.other_device else self.colour

    def mark(
        self, x: float, y: float, *inside: Markup, size: float = 1.0, **attributes: Attribute
    ) -> Markup:
        """Return its mark at a place in a picture."""
        return tag(
            "path", *inside, class_=f"mark {self.classes}", d=self.shape,
            transform=f"translate({x} {y})" + (f" scale({size})" if size != 1 else ""),
            **attributes,
        )  # fmt: skip

    def swatch(self) -> Markup:
        """Return its mark for a line of text, which names it."""
        return tag(
            "svg", self.mark(7, 7), class_="swatch", width=14, height=14, viewBox="0 0 14 14",
            aria_hidden="true",
        )  # fmt: skip


class Looks:
    """The looks of all contenders of a document."""

    def __init__(self, rows: Iterable[Row]) -> None:
        known = list(rows)
        self._contenders = list(dict.fromkeys(row.contender for row in known))
        self._devices = list(dict.fromkeys(row.device for row in known))
        others = dict.fromkeys(
            name.partition(",")[0] for name in self._contenders if _family(name) is None
        )
        self._others = list(others)

    def of(self, row: Row) -> Look:
        """Return the looks of a row's contender on its device."""
        return Look(
            label=self.label(row),
            colour=f"c{self._colour(row.contender)}",
            shape=_SHAPES[self._contenders.index(row.contender) % len(_SHAPES)],
            other_device=row.device != self._devices[0],
        )

    def label(self, row: Row) -> str:
        """Return a contender's name, with its device where there are several."""
        return row.contender if len(self._devices) == 1 else f"{row.contender} on {row.device}"

    def legend(self, rows: Iterable[Row]) -> Markup:
        """Return the list of what the marks of these rows stand for."""
        looks = dict.fromkeys(map(self.of, rows))
        items = [tag("li", look.swatch(), look.label) for look in looks]
        return tag("ul", join(items), class_="legend")

    def _colour(self, contender: str) -> int:
        family = _family(contender)
        if family is not None:
            return family
        spare = self._others.index(contender.partition(",")[0])
        return len(_FAMILIES) + spare % (_COLOURS - len(_FAMILIES))


def _family(contender: str) -> int | None:
    matches = (i for i, family in enumerate(_FAMILIES) if contender.startswith(family))
    return next(matches, None)
