"""Options of the suite, and what goes into pytest-benchmark's JSON beside the times."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import summary
from gpubp.bench import environment, run
from gpubp.bench.cases import Case
from gpubp.bench.processes import Pool

_load = pytest.StashKey[list[float]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parser.addoption("--all", action="store_true", help="the whole network family and all dtypes")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_load] = environment.load()


def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, Any]:
    load = {"start": config.stash[_load], "end": environment.load()}
    return environment.describe() | {"load": load, "quick": config.getoption("--quick")}


def pytest_benchmark_update_commit_info(commit_info: dict[str, Any]) -> None:
    commit_info["project"] = "gpubp"  # else the name of a folder


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    output_json["summary"] = summary.summarize(output_json["benchmarks"])


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    """Return processes for contenders, which live as long as the session."""
    with Pool() as made:
        yield made


@pytest.fixture(scope="session")
def roofs() -> Callable[..., list[dict[str, Any]]]:
    """Return a function that measures the roofs of a case's device and precision, once.

    It takes the case, and how many cores of a CPU are at work if not all.
    """
    known: dict[tuple[str, str, int | None], list[dict[str, Any]]] = {}

    def measured(case: Case, cores: int | None = None) -> list[dict[str, Any]]:
        key = case.device, case.precision, cores
        if key not in known:
            known[key] = run.roofs_of(case, **({"cores": cores} if cores else {}))
        return known[key]

    return measured


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--quick"))
