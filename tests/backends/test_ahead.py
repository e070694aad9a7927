"""Entry points that are compiled by several processes at once, and what if one can't or dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

# The entry points of four small kernels, and how many of them came from the cache when they were
# called: those that another process compiled.
COMPILE = """
import os, subprocess, threading
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
NO_THREAD = """
def refused(*args, **kwargs):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refused
"""
DIES = 'ahead._WORKER = "import sys; sys.stdin.readline(); sys.exit(3)"'


@pytest.mark.parametrize(
    ("trouble", "others"),
    [(FINE, 4), (NO_PROCESS, 0), (NO_THREAD, 0), (DIES, 0)],
    ids=["fine", "no process can be started", "no thread", "the processes die"],
)
def test_everything_is_compiled(tmp_path, trouble, others):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMPILE.format(trouble=trouble)],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "GPUBP_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == f"{others} True 6.0 9.0"  # the rest is compiled when it is called
    assert int(second) == others
    assert not list(tmp_path.rglob("*.tmp"))


# A signal while a process compiles what never ends. Its source says which process it is, and leaves
# a file behind that is half written.
STUCK = """
import os, time
from gpubp.kernels.numba import compiled
(compiled.folder() / f"{os.getpid()}.half.tmp").touch()
(compiled.folder() / "name").write_text(str(os.getpid()))
(compiled.folder() / "name").rename(compiled.folder() / "begun")
time.sleep(3600)
"""
PRESS = """
import os, signal, sys, threading, time
from gpubp.interrupts import deferred
from gpubp.kernels.numba import ahead, compiled

def press(begun=compiled.folder() / "begun"):
    while not begun.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), int(sys.argv[1]))

threading.Thread(target=press, daemon=True).start()
try:
    with deferred():
        ahead.compile_entries([("softmax_of_a_long_time", sys.argv[2])])
except KeyboardInterrupt:
    print("heard")
"""


def press(number, cache):
    """Send a signal; return exit code, what was said, whether the process is gone, half files."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRESS, str(int(number)), STUCK],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "GPUBP_CACHE_DIR": str(cache)},
    )  # fmt: skip
    (begun,) = cache.rglob("begun")
    deadline = time.monotonic() + 60
    while (there := is_running(int(begun.read_text()))) and time.monotonic() < deadline:
        time.sleep(0.02)
    return done.returncode, done.stdout + done.stderr, not there, [*cache.rglob("*.tmp")]


def is_running(process):
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_ctrl_c_ends_a_compilation_at_once_and_leaves_nothing(tmp_path: Path):
    assert press(signal.SIGINT, tmp_path) == (0, "heard\n", True, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_who_compiles_ends_with_who_started_it(number, tmp_path: Path):
    code, said, gone, _ = press(number, tmp_path)
    assert (code, said, gone) == (-number, "", True)
