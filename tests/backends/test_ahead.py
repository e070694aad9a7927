"""Entry points that are compiled by several processes at once, and what if one can't or dies."""

import os
import subprocess
import sys

import pytest

# The entry points of four small kernels, and how many of them came from the cache when they were
# called: those that another process compiled.
COMPILE = """
import os, subprocess
import numpy as np
from gpubp.kernels.numba import ahead, compiled, eager, entry

os.sched_getaffinity = lambda pid: {{0, 1}}
{trouble}
announced = []
compiled.on_compile(announced.append)
variants = [
    entry.Variant("advance", ("int64",) * 2),
    entry.Variant("identity", ("float64",) * 2),
    entry.Variant("add", ("float64",) * 2),
    entry.Variant("bias_grad", ("float64",) * 2),
]
ahead.compile_entries([(v.name, entry.source(v)) for v in variants])
there = sum(compiled.is_kept(v.name) for v in variants)
dz, db = np.arange(6.0).reshape(3, 2), np.zeros(2)
eager.run("bias_grad", [dz, db])
for variant in variants:
    entry.address(variant)
print(there, sorted(set(announced)) == sorted(v.name for v in variants), *db)
print(len(set(compiled._addresses) - set(compiled.made_here)))
"""

FINE = ""
NO_PROCESS = """
def refused(*args, **kwargs):
    raise PermissionError(1, "Operation not permitted")
subprocess.Popen = refused
"""
DIES = 'ahead._WORKER = "import sys; sys.stdin.readline(); sys.exit(3)"'


@pytest.mark.parametrize(
    ("trouble", "others"),
    [(FINE, range(1, 4)), (NO_PROCESS, [0]), (DIES, [0])],
    ids=["fine", "no process can be started", "the process dies"],
)
def test_everything_is_compiled(tmp_path, trouble, others):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMPILE.format(trouble=trouble)],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "GPUBP_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    there = 4 if trouble != DIES else 3  # the one that was sent to it is compiled when called
    assert first == f"{there} True 6.0 9.0"
    assert int(second) in others
    assert not list(tmp_path.rglob("*.tmp"))
