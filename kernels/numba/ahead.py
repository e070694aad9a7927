"""Compiles several entry points at once, each in a process of its own.

Numba compiles one at a time. What a process compiles is found by the others in the cache folder, so
this is a matter of time alone: where no process can be started, or one ends early, what is missing
is compiled when it is first called.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import IO

from gpubp import interrupts
from gpubp.kernels.numba import compiled

Entry = tuple[str, str]  # name and source, as compiled.compile_entry takes them

_ENOUGH = 4  # entry points that are missing, from which on a process is worth its start of 0.6 s
_MOST = 4  # processes, this one included: by then the longest entry point alone takes as long
_LISTEN_SECONDS = 0.1  # from one look for Ctrl-C to the next
# What takes longest is begun first: seconds where the others take 0.1 to 0.6.
_LONG = ("gemm_", "softmax_cross_entropy")

_WORKER = """
import json, sys
sys.path[:] = json.loads(sys.stdin.readline())
from gpubp.kernels.numba import compiled
for line in sys.stdin:
    compiled.compile_entry(*json.loads(line))
    print(flush=True)
"""


def compile_entries(entries: Sequence[Entry]) -> None:
    """Compile those of the entry points that were never compiled, on all processors."""
    missing = dict(entry for entry in entries if not compiled.is_kept(entry[0]))
    processes = min(len(os.sched_getaffinity(0)), _MOST, len(missing))
    if processes < 2 or len(missing) < _ENOUGH or not compiled.lasts():
        return
    waiting = deque(sorted(missing.items(), key=lambda entry: not entry[0].startswith(_LONG)))
    workers = [worker for worker in map(_start, range(processes - 1)) if worker is not None]
    threads = [threading.Thread(target=_feed, args=(w, waiting), daemon=True) for w in workers]
    try:
        for thread in threads:
            thread.start()
        while (entry := _next(waiting)) is not None:
            compiled.compile_entry(*entry)
        for thread in threads:
            while thread.is_alive():
                interrupts.hear()
                thread.join(_LISTEN_SECONDS)
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def _start(_: int) -> subprocess.Popen[str] | None:
    """Return a process that compiles what it is sent, None if there can be none."""
    try:
        return subprocess.Popen(
            [sys.executable, "-c", _WORKER], text=True, process_group=0,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return None


def _feed(worker: subprocess.Popen[str], waiting: deque[Entry]) -> None:
    """Send a process one entry point after the other, until none is left or it has ended."""
    commands, answers = worker.stdin, worker.stdout
    assert commands is not None  # both are pipes
    assert answers is not None
    try:
        _send(commands, sys.path)
        while (entry := _next(waiting)) is not None:
            compiled.announce(entry[0])
            _send(commands, entry)
            if not answers.readline():
                return
    except OSError:  # the process has ended
        return


def _next(waiting: deque[Entry]) -> Entry | None:
    """Take the next entry point, None if there is no more; others may take them, too."""
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _send(commands: IO[str], message: object) -> None:
    commands.write(json.dumps(message) + "\n")
    commands.flush()
