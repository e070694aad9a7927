"""Compiles several entry points at once, each in a process of its own.

Numba compiles one at a time. What a process compiles is found by the others in the cache folder, so
this is a matter of time alone: where no process can be started, or one ends early, what is missing
is compiled when it is first called. And of Ctrl-C: a compilation, of which the longest takes
seconds, can't be broken off, but a process can be ended at once. So this one compiles nothing
itself; it waits where Ctrl-C is heard. The others end with it, whatever ends it.
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
from gpubp.kernels.numba import compiled, objects

Entry = tuple[str, str]  # name and source, as compiled.compile_entry takes them

_ENOUGH = 4  # entry points that are missing, from which on a process is worth its start of 0.6 s
_MOST = 4  # processes: by then the longest entry point alone takes as long
_LISTEN_SECONDS = 0.1  # from one look for Ctrl-C to the next
# What takes longest: seconds where the others take 0.1 to 0.6. It is begun first, and one of them
# alone is worth a process.
_LONG = ("gemm_", "softmax", "log_softmax")

_WORKER = """
import ctypes, json, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: when who started this ends
sys.path[:] = json.loads(sys.stdin.readline())
from gpubp.kernels.numba import compiled
for line in sys.stdin:
    compiled.compile_entry(*json.loads(line))
    print(flush=True)
"""


def compile_entries(entries: Sequence[Entry]) -> None:
    """Compile those of the entry points that were never compiled, on all processors.

    Raises:
        KeyboardInterrupt: at once, or as held back by :func:`gpubp.interrupts.deferred` and let
            count here; what is not compiled by then is left for later.
    """
    missing = dict(entry for entry in entries if not compiled.is_kept(entry[0]))
    worth = len(missing) >= _ENOUGH or any(name.startswith(_LONG) for name in missing)
    if not worth or not compiled.lasts():
        return
    waiting = deque(sorted(missing.items(), key=lambda entry: not entry[0].startswith(_LONG)))
    feeders: dict[threading.Thread, subprocess.Popen[str]] = {}
    try:
        for _ in range(min(len(os.sched_getaffinity(0)), _MOST, len(missing))):
            if (worker := _start()) is None:
                break
            thread = threading.Thread(target=_feed, args=(worker, waiting), daemon=True)
            feeders[thread] = worker
            try:
                thread.start()
            except RuntimeError:  # there can be no more threads
                break
        for thread in feeders:
            while thread.is_alive():
                interrupts.hear()
                thread.join(_LISTEN_SECONDS)
    finally:
        waiting.clear()
        for worker in feeders.values():
            worker.kill()
        for thread, worker in feeders.items():
            if thread.ident is not None:  # it was started
                thread.join()  # nobody else reads from the pipes that are closed now
            worker.communicate()
            objects.discard(compiled.folder(), worker.pid)


def _start() -> subprocess.Popen[str] | None:
    """Return a process that compiles what it is sent, None if there can be none.

    It has a process group of its own, because Ctrl-C goes to all of the terminal's.
    """
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
