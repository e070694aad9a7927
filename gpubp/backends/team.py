"""Threads that run compiled programs side by side: the caller's and others that wait for work.

Ctrl-C is heard by the caller's thread when it comes back from compiled code, so whoever runs a team
runs it for a fraction of a second at a time.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gpubp.kernels.numba import compiled, runner

Words = NDArray[np.int64]


class Team:
    """The caller's thread and ``size - 1`` others, which are started when first needed."""

    def __init__(self, size: int) -> None:
        # One thread more than there are mailboxes: of a mailbox that is served again before the
        # thread that served it has ended.
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="gpubp")
        self._boxes = [_mailbox() for _ in range(size - 1)]

    def run(self, programs: Sequence[Words]) -> None:
        """Run programs, at most ``size``, the first on the caller's thread; wait for all."""
        first, *others = programs
        if not others:
            self._run(first.ctypes.data)
            return
        boxes = self._boxes[: len(others)]
        posts = [
            word
            for box, program in zip(boxes, others, strict=True)
            for word in (box.ctypes.data, program.ctypes.data)
        ]
        words = np.array([len(others), *posts, first.ctypes.data, runner.sched_yield()], np.int64)
        self._post(words.ctypes.data)
        here = _processor()
        for number, box in enumerate(boxes):
            if words[2 + 2 * number]:
                self._threads.submit(self._wake, box, number, here)
        self._lead(words.ctypes.data)

    def _wake(self, box: Words, number: int, taken: int) -> None:
        """Serve a mailbox, starting on a processor of its own.

        A thread that is woken is often put on the processor of the one that woke it, where each
        waits for the other, and it takes milliseconds until one is moved. So it goes where it
        should be and is then free to be moved again.
        """
        allowed = os.sched_getaffinity(0)
        free = sorted(allowed - {taken})
        if number < len(free):
            os.sched_setaffinity(0, {free[number]})
            os.sched_setaffinity(0, allowed)
        words = np.array([box.ctypes.data, runner.sched_yield()], np.int64)
        self._serve(words.ctypes.data)

    @cached_property
    def _run(self) -> compiled.Function:
        return compiled.c_function(runner.address("run"))

    @cached_property
    def _post(self) -> compiled.Function:
        return compiled.c_function(runner.address("post"))

    @cached_property
    def _lead(self) -> compiled.Function:
        return compiled.c_function(runner.address("lead"))

    @cached_property
    def _serve(self) -> compiled.Function:
        return compiled.c_function(runner.address("serve"))


def _mailbox() -> Words:
    """Return an empty mailbox that nobody looks at."""
    raw = np.zeros(runner.MAILBOX + 8, np.int64)
    start = -raw.ctypes.data % 64 // 8
    box = raw[start : start + runner.MAILBOX]
    box[runner.ASLEEP] = 1
    return box


def _processor() -> int:
    """Return the number of the processor that this thread is on."""
    return int(ctypes.CDLL(None).sched_getcpu())
