"""Lends what an import needs and a machine does not have, from what is there.

Two packages may be missing where benchmarks run: gpubp itself, then taken from the source tree
(``gpubp.kernels`` lies in kernels/ there), and array_api_compat, of which scikit-learn brings a
copy. What is installed is never replaced. This folder on PYTHONPATH lends to a process and to all
that it starts, by sitecustomize.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

lent: dict[str, Path] = {}  # the folders of packages that are not installed, by name


class _Finder:
    """Finds the packages that are lent; it comes first, for a gpubp/ without kernels may follow."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        folder = lent.get(name)
        if folder is None:
            return None
        return spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def install() -> None:
    """Lend what is not installed; a second call does nothing."""
    if _Finder in sys.meta_path:
        return
    gpubp = find_spec("gpubp")
    # Found in the source tree it may be without its kernels: so where ROOT is on PYTHONPATH.
    if gpubp is None or Path(gpubp.origin or "").parent == ROOT / "gpubp":
        lent.update({"gpubp": ROOT / "gpubp", "gpubp.kernels": ROOT / "kernels"})
    if find_spec("array_api_compat") is None:
        copy = _of_sklearn("externals/array_api_compat")
        if copy is not None:
            lent["array_api_compat"] = copy
    sys.meta_path.insert(0, _Finder)


def _of_sklearn(part: str) -> Path | None:
    """Return a folder of scikit-learn's, if it is there; found without importing it."""
    found = find_spec("sklearn")
    for place in (found and found.submodule_search_locations) or ():
        if (Path(place) / part).is_dir():
            return Path(place) / part
    return None
