"""Threads that run compiled programs side by side: the caller's and others that wait for work.

Whoever runs a program waits in compiled code until the others have come as far, where no error and
no Ctrl-C reaches. So what could fail is done before a program is posted: threads are started and
code is compiled in :meth:`Team.ready`, and nothing that a thread does after that can fail. Ctrl-C
is heard by the caller's thread when it comes back from compiled code, so whoever runs a team runs
it for a fraction of a second at a time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from gpubp.errors import warn
from gpubp.kernels.numba import compiled, runner

Words = NDArray[np.int64]


class _Seat:
    """A mailbox and what its thread waits for when it has stopped looking."""

    def __init__(self, number: int, box: Words) -> None:
        self.number, self.box = number, box
        self.words = np.array([box.ctypes.data, runner.sched_yield()], np.int64)
        self.wake = threading.Semaphore(0)
        self.ended = False  # when it wakes next
        self.taken = -1  # the processor of the thread that wakes it


class Team:
    """The caller's thread and ``size - 1`` others, which are started when first needed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._made_in = -1  # no process
        self._seats: list[_Seat] = []

    def ready(self, count: int) -> bool:
        """Return whether ``count`` programs can run side by side; start threads if need be.

        They can't where the system or a sandbox refuses threads, and when the interpreter ends;
        the first is warned of once. In a process that was forked, where the threads are not, there
        will be new ones.

        Raises:
            OSError: what the threads run can't be compiled.
        """
        if self._made_in != os.getpid():
            self._made_in, self._seats = os.getpid(), []
        if sys.is_finalizing():
            return False
        serve = self._serve
        _ = self._lead, self._post
        while len(self._seats) < count - 1:
            seat = _Seat(len(self._seats), _mailbox())
            thread = threading.Thread(
                target=_sit, args=(seat, serve), name=f"gpubp_{seat.number}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                _warn_of(str(error))
                return False
            weakref.finalize(self, _end, seat).atexit = False
            self._seats.append(seat)
        return True

    def run(self, programs: Sequence[Words]) -> None:
        """Run programs, at most ``size``, the first on the caller's thread; wait for all.

        For several :meth:`ready` must have said that they can.
        """
        first, *others = programs
        if not others:
            self._run(first.ctypes.data)
            return
        seats = self._seats[: len(others)]
        posts = [
            word
            for seat, program in zip(seats, others, strict=True)
            for word in (seat.box.ctypes.data, program.ctypes.data)
        ]
        words = np.array([len(others), *posts, first.ctypes.data, runner.sched_yield()], np.int64)
        here = _processor()
        self._post(words.ctypes.data)
        for number, seat in enumerate(seats):
            if words[2 + 2 * number]:
                seat.taken = here
                seat.wake.release()
        self._lead(words.ctypes.data)

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


def _sit(seat: _Seat, serve: compiled.Function) -> None:
    """Serve a mailbox whenever woken, until the team is gone."""
    while True:
        seat.wake.acquire()
        if seat.ended:
            return
        _move(seat)
        serve(seat.words.ctypes.data)


def _end(seat: _Seat) -> None:
    seat.ended = True
    seat.wake.release()


def _move(seat: _Seat) -> None:
    """Go to a processor of one's own.

    A thread that is woken is often put on the processor of the one that woke it, where each waits
    for the other, and it takes milliseconds until one is moved. So it goes where it should be and
    is then free to be moved again. Where a sandbox refuses that, it costs these milliseconds.
    """
    with contextlib.suppress(OSError):
        allowed = os.sched_getaffinity(0)
        free = sorted(allowed - {seat.taken})
        if seat.number < len(free):
            os.sched_setaffinity(0, {free[seat.number]})
            os.sched_setaffinity(0, allowed)


@cache
def _warn_of(reason: str) -> None:
    """Warn of it, once a process."""
    warn(
        f"no thread can be started ({reason}), so one computes what several would share, with the "
        "same results; threads=1 says so from the start",
        RuntimeWarning,
    )


def _mailbox() -> Words:
    """Return an empty mailbox that nobody looks at."""
    raw = np.zeros(runner.MAILBOX + 8, np.int64)
    start = -raw.ctypes.data % 64 // 8
    box = raw[start : start + runner.MAILBOX]
    box[runner.ASLEEP] = 1
    return box


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _processor() -> int:
    """Return the number of the processor that this thread is on."""
    return int(_c_library().sched_getcpu())
