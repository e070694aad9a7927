"""The HTML report: a result document as one file that needs no network and no JavaScript.

Every picture is SVG that is drawn here, and every number on the page stands beside the number of
the document that it was made from, in a ``data`` element or attribute. ``looks`` and ``style.css``
decide how things look, a module a section what is said.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from gpubp import files
from gpubp.bench.report.page import page
from gpubp.bench.report.raw import extract
from gpubp.bench.report.result import read

__all__ = ["extract", "render", "write"]


def write(
    document: Mapping[str, Any],
    path: str | os.PathLike[str],
    earlier: Mapping[str, Any] | None = None,
) -> None:
    """Write the report of a result to a file, whole or not at all.

    Args:
        document: what ``gpubp bench --json`` writes.
        path: the HTML file.
        earlier: the document of another run, to compare with.

    Raises:
        InputError: a document is not a result of ``gpubp bench``, or a part of it is not readable.
        SaveError: the file could not be written; what was there before is still there.
    """
    files.write(path, render(document, earlier).encode("utf-8"))


def render(document: Mapping[str, Any], earlier: Mapping[str, Any] | None = None) -> str:
    """Return the report's HTML; see :func:`write`."""
    return page(read(document), None if earlier is None else read(earlier))
