"""Peak memory of an epoch on 1 GB of float32, held in memory or mapped from a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from replay import replay

_PROBE = str(Path(__file__).with_name("memory_probe.py"))
_LIMIT_GB = 1.15  # beside the plan, the interpreter and its libraries, and the labels


@pytest.mark.benchmark(timer=replay, group="memory of an epoch, 1 GB of float32")
@pytest.mark.parametrize("variant", ["memory", "memmap"])
def test_memory(benchmark: Any, tmp_path: Path, variant: str) -> None:
    file = tmp_path / "X.npy"
    if variant == "memmap":
        _probe("write", file)
    report = _probe(variant, file)
    file.unlink(missing_ok=True)
    seconds = report.pop("seconds")
    benchmark.extra_info |= {
        "contender": {"memory": "X in memory", "memmap": "np.memmap"}[variant],
        "limit_gb": _LIMIT_GB, "memory": report,
    }  # fmt: skip
    replay.into(benchmark, [seconds])


def _probe(*arguments: object) -> dict[str, float]:
    """Return what memory_probe.py says, run in a process of its own."""
    command = [sys.executable, _PROBE, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, float] = json.loads(done.stdout)
    return report
