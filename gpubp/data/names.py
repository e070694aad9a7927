"""Names of columns in messages: the nearest to one that is not there, and lists cut short."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Of columns that tell rows apart and say nothing of them.
_ROW_NAMES = {
    "", "id", "index", "idx", "key", "no", "no.", "nr", "nr.", "row", "row#", "rowid", "rownum",
    "rownames", "rowname", "row number", "row name", "obs", "s.no", "s.no.", "sno", "sl no", "uuid",
    "#",
}  # fmt: skip
_ID = re.compile(r"(?:^|[\s_.\-#]|(?<=[a-z0-9]))(?:ID|Id)s?$|(?:^|[\s_.\-#])id$")
_UNNAMED = re.compile(r"column [0-9]+|Unnamed: [0-9]+")
_USUAL_FOR_NONE = {"X", "V1", "...1", "level_0"}


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about a name that is not among those known."""
    names = list(known)
    folded = {known_name.casefold(): known_name for known_name in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    return f"there are: {shorten(names)}"


def shorten(names: Iterable[object], limit: int = 8) -> str:
    """Return names separated by commas, the first few of them if there are many."""
    every = [str(name) for name in names]
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more


def of_rows(name: str) -> bool:
    """Return whether a name is one of columns that tell rows apart, such as Id, or none at all."""
    plain = " ".join(name.casefold().replace("_", " ").split())
    return plain in _ROW_NAMES or bool(_ID.search(name) or _UNNAMED.fullmatch(name))


def is_usual_for_none(name: str) -> bool:
    """Return whether a name is one that programs give a column without one, among other things."""
    return name in _USUAL_FOR_NONE
