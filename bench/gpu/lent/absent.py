"""A pytest plugin: tests that need a package which is not installed are skipped, not failed.

    pytest -p absent

The conftest and the helpers of the tests import two such packages for what other tests do. These
two are lent: there is nothing in them but what may happen at an import.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import pytest

# Import names of what is worth having and not needed.
OPTIONAL = (
    "array_api_strict", "build", "click", "cuda", "hypothesis", "jax", "matplotlib", "ml_dtypes",
    "mpmath", "optax", "pandas", "polars", "psutil", "threadpoolctl", "torch", "xdist",
)  # fmt: skip


def _nothing(*args: object, **options: object) -> None:
    """Take the place of a function that only settles how a package behaves."""


_LENT: dict[str, dict[str, Any]] = {
    "array_api_strict": {"set_array_api_strict_flags": _nothing},
    "hypothesis": {
        "settings": SimpleNamespace(register_profile=_nothing, load_profile=_nothing),
    },
}


def _lend(name: str) -> None:
    module = ModuleType(name)

    def missing(attribute: str) -> NoReturn:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    vars(module).update({**_LENT[name], "__getattr__": missing})
    sys.modules[name] = module


for _name in _LENT:
    if find_spec(_name) is None:
        _lend(_name)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    call = getattr(report, "call", None)
    if report.failed and call is not None:
        _skip(report, call.excinfo.value)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.excinfo is not None:
        _skip(report, call.excinfo.value)
    return report


def _skip(report: Any, error: BaseException | None) -> None:
    """Make a report that of a skipped test, if the error is that a package is not there."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            name = (error.name or "").partition(".")[0]
            if name in OPTIONAL:
                report.outcome = "skipped"
                report.longrepr = (report.nodeid, 0, f"Skipped: {name} is not installed")
            return
        error = error.__cause__ or error.__context__
