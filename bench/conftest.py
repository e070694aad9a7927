"""Options of the suite, and what goes into pytest-benchmark's JSON beside the times."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.logger import PytestBenchmarkWarning

sys.path.insert(0, str(Path(__file__).parent))

import summary
from gpubp.bench import environment, run
from gpubp.bench.cases import Case
from gpubp.bench.processes import Pool

_load = pytest.StashKey[list[float]]()
_seconds: dict[str, float] = {}  # that each suite took, races included


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parser.addoption("--all", action="store_true", help="the whole network family and all dtypes")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_load] = environment.load()
    # That a result to compare with is of another machine, or other versions, is said; it is no
    # error, as warnings are otherwise here.
    warnings.simplefilter("default", PytestBenchmarkWarning)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    suite = Path(report.location[0]).stem.removeprefix("test_")
    _seconds[suite] = _seconds.get(suite, 0.0) + report.duration


def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    return environment.describe()


def pytest_benchmark_update_commit_info(commit_info: dict[str, Any]) -> None:
    commit_info["project"] = "gpubp"  # else the name of a folder


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    # Not in the machine's information: two runs are of one machine whatever its load.
    load = {"start": config.stash[_load], "end": environment.load()}
    seconds = {suite: round(taken, 1) for suite, taken in _seconds.items()}
    output_json["run"] = {
        "load": load, "quick": config.getoption("--quick"), "seconds": seconds,
    }  # fmt: skip
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
