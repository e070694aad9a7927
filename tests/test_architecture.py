"""Dependencies point down only, and what may assume NumPy or Numba is in few places."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom up: a module may import those of its own rank and of lower ones.
RANKS = [
    ["gpubp.errors", "gpubp.interrupts"],
    ["gpubp.kernels"],
    [
        "gpubp.registry",
        "gpubp.settings",
        "gpubp.streams",
        "gpubp.files",
        "gpubp.ops",
        "gpubp.liveline",
    ],
    ["gpubp.plan"],
    ["gpubp.initializers", "gpubp.data", "gpubp.schedules", "gpubp.history", "gpubp.checkpoint"],
    ["gpubp.layers", "gpubp.losses", "gpubp.optimizers"],
    [
        "gpubp.backends",
        "gpubp.network",
        "gpubp.guard",
        "gpubp.recent",
        "gpubp.room",
    ],
    ["gpubp.feed"],
    ["gpubp.devices", "gpubp.callbacks", "gpubp.engine"],
    ["gpubp.intake", "gpubp.meaning", "gpubp.metrics"],
    ["gpubp.document"],
    ["gpubp.gradients", "gpubp.state", "gpubp.epochs", "gpubp.trainer"],
    ["gpubp.bench"],
    ["gpubp.cli"],
]


def _modules() -> Iterator[tuple[str, Path]]:
    for top, folder in (("gpubp", ROOT / "gpubp"), ("gpubp.kernels", ROOT / "kernels")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            yield ".".join([top, *(part for part in parts if part != "__init__")]), path


MODULES = dict(_modules())


def _imports(path: Path) -> Iterator[str]:
    """Yield what a module imports, but for what only a type checker sees."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else str(node.module)


def _rank(module: str) -> int | None:
    for rank, names in enumerate(RANKS):
        if any(module == name or module.startswith(name + ".") for name in names):
            return rank
    return None


@pytest.mark.parametrize("module", MODULES)
def test_dependencies_point_down(module: str) -> None:
    if module in ("gpubp", "gpubp.__main__"):
        return  # the public names, loaded on use, and the command
    own = _rank(module)
    assert own is not None, f"give {module} a rank"
    for imported in _imports(MODULES[module]):
        if imported.startswith("gpubp."):
            rank = _rank(imported)
            assert rank is not None
            assert rank <= own, f"{module} imports {imported}"


def _importers(library: str) -> set[str]:
    return {
        module
        for module, path in MODULES.items()
        if any(name == library or name.startswith(library + ".") for name in _imports(path))
    }


def test_numba_is_imported_by_its_kernels_only() -> None:
    others = [m for m in _importers("numba") if not m.startswith("gpubp.kernels.numba.")]
    assert others == ["gpubp.bench.contenders.products"]  # the floor, which is not ours
    assert _importers("numba"), "the test sees no import at all"


def test_plans_and_reference_kernels_know_no_numpy() -> None:
    for module in _importers("numpy"):
        assert not module.startswith(("gpubp.plan", "gpubp.kernels.reference")), module
    assert _importers("numpy"), "the test sees no import at all"


def test_cupy_is_imported_by_its_driver_only() -> None:
    assert _importers("cupy") == {"gpubp.kernels.cuda.cupy_driver"}


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_no_other_array_library_is_imported(library: str) -> None:
    others = [m for m in _importers(library) if not m.startswith("gpubp.bench.contenders.")]
    assert not others


def test_loaded_files_are_never_code() -> None:
    for library in ("pickle", "marshal", "shelve", "joblib"):
        assert not _importers(library)
