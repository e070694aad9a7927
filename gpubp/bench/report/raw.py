"""The result itself, inside the page: to be read, saved, or compared with later."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from gpubp.bench.report import parts
from gpubp.bench.report.markup import Markup, tag
from gpubp.bench.report.result import Result
from gpubp.errors import InputError

ID = "gpubp-bench"
# In JSON these can stand in strings only, where an escape means the same. "<" could end the script
# or open a comment in it; all beyond ASCII, the line ends U+2028 and U+2029 too, json escapes.
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def section(result: Result) -> parts.Section:
    """Return the section."""
    words = (
        "Everything on this page was computed from the document below, which is in the page as "
        f"the element “{ID}”. A later run can be compared with it, in this page or saved: "
        "gpubp bench --compare report.html."
    )
    script = tag("script", embed(result.document), type="application/json", id=ID)
    return parts.section(
        "raw", "The result as JSON", parts.lead(words),
        tag("button", "Save as a file", type="button", id="save", hidden=""),
        tag("details", tag("summary", "Show it"), script),
    )  # fmt: skip


def extract(page: str) -> dict[str, Any]:
    """Return the document in a page.

    Raises:
        InputError: the page is no report, or is not whole.
    """
    _, found, rest = page.partition(f'<script type="application/json" id="{ID}">')
    text, closed, _ = rest.partition("</script>")
    if not (found and closed):
        raise InputError("it is no report of 'gpubp bench --html', or not the whole of it")
    document: dict[str, Any] = json.loads(text)
    return document


def embed(document: Mapping[str, Any]) -> Markup:
    """Return the document as JSON that can stand in a script element; NaN and infinity as null."""
    written = json.dumps(_finite(document), ensure_ascii=True, allow_nan=False, indent=1)
    return Markup(written.translate(_ESCAPES))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
