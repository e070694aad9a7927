"""Peak memory of an epoch on 1 GB of float32, held in memory or mapped from a file."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import suites
from gpubp import backends, devices

_PROBE = str(Path(__file__).with_name("memory_probe.py"))
_LIMIT_GB = 1.15  # beside the plan, the interpreter and its libraries, and the labels
_DEFAULT = "numba"

Report = dict[str, float]


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a file with the rows that are otherwise in memory."""
    file = tmp_path_factory.mktemp("rows") / "X.npy"
    _probe(_DEFAULT, "write", file)
    yield file
    file.unlink()


@pytest.fixture(scope="module")
def first() -> Report:
    """Return a place for the loss of whoever comes first: all others must have the same."""
    return {}


@pytest.mark.benchmark(timer=suites.replay, group="memory of an epoch, 1 GB of float32")
@pytest.mark.parametrize("variant", ["memory", "memmap"])
@pytest.mark.parametrize("backend", backends.DEVICES)
def test_memory(benchmark: Any, mapped: Path, first: Report, backend: str, variant: str) -> None:
    problem = devices.cuda_problem() if backend == "cupy" else ""
    if problem:
        pytest.skip(problem)
    report = _probe(backend, variant, mapped)
    seconds, loss = report.pop("seconds"), report.pop("loss")
    held = {"memory": "X in memory", "memmap": "np.memmap"}[variant]
    benchmark.extra_info |= {
        "contender": held if backend == _DEFAULT else f"{held}, {backend} backend",
        "limit_gb": _LIMIT_GB, "memory": report, "loss": loss,
    }  # fmt: skip
    suites.replay.into(benchmark, [seconds])
    assert math.isclose(loss, first.setdefault("loss", loss), rel_tol=1e-4)


def _probe(*arguments: object) -> Report:
    """Return what memory_probe.py says, run in a process of its own."""
    command = [sys.executable, _PROBE, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report: Report = json.loads(done.stdout)
    return report
