"""HTML and SVG as strings, where text is escaped unless it is markup already.

A result may have been written by anybody, so no other module puts an angle bracket together.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

Attribute = str | float | None
_VOID = ("meta", "link", "br", "wbr")


class Markup(str):
    """Text that needs no escaping, because it was made here."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: Attribute) -> Markup:
    """Return an element; children that are None, and attributes that are None, are left out.

    ``class_`` stands for class, ``data_row`` for data-row. A float keeps all of its digits, so that
    what a page says can be compared with the result that it was made from.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[str | None], between: str = "") -> Markup:
    """Return the children one after the other, escaped where they are not markup."""
    parts = (
        child if isinstance(child, Markup) else html.escape(child)
        for child in children
        if child is not None
    )
    return Markup(html.escape(between).join(parts))


def data(value: float, text: str) -> Markup:
    """Return a number in words for people, with the number itself for machines."""
    return tag("data", text, value=value)
