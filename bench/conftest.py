"""Options of the suite, and what goes into pytest-benchmark's JSON beside the times."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import summary
from gpubp.bench import environment

_load = pytest.StashKey[list[float]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="fewer rounds: a look, not a result")


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
def quick(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--quick"))
