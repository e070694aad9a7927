"""The compiled loop over a plan's steps, and what its threads need to keep in step.

A program is a table of (address of an entry point, address of its argument words), one row a call.
One thread runs one program. Where several run side by side, their programs contain calls of
``barrier``: after the gradients, so that each thread may then add up and update its slice of the
parameters, and at the end of the step.

The caller's thread leads: it ``post``s the others' programs to their mailboxes, runs its own and
waits for them (``lead``). The others ``serve``: for a moment after a program they look for the next
one, which is then there within a tenth of a microsecond; to wake a thread takes fifty.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
from numba import carray, njit

from gpubp.kernels.numba import compiled
from gpubp.kernels.numba.compiled import FLAGS
from gpubp.kernels.numba.intrinsics import (
    atomic_add,
    atomic_exchange,
    atomic_load,
    call,
    pointer,
    relax,
    set_flush_to_zero,
)  # fmt: skip

# What the words of ``run`` mean, in order. ``UPDATE`` is the index of the first call that changes
# the parameters; ``LOSSES`` the address of the addresses of every share's loss sum (0: a program
# without a loss to watch).
TABLE, CALLS, UPDATE, STEPS, LOSSES, SHARES, DONE, STATUS = range(8)
FINISHED, NOT_FINITE = range(2)

# What the words of a mailbox are, each on a cache line of its own: the address of a program's words
# (0: no program), and whether its thread has stopped looking.
JOB, ASLEEP = 0, 8
MAILBOX = 16

_SPINS = 4000  # a tenth of a millisecond of waiting before the processor is offered to others
_LINGER = _SPINS + 500  # some 0.4 ms after which a thread stops looking: more than between epochs


@njit(**FLAGS)
def run(words: Any) -> None:
    """Run a program for a number of steps, denormals flushed to zero.

    Ends early before a step's update when the sum of the losses is not finite: the parameters are
    those of the last finished step.
    """
    table = carray(pointer(words[TABLE], "int64"), (words[CALLS], 2))
    losses = carray(pointer(words[LOSSES], "int64"), (words[SHARES],))
    control = set_flush_to_zero(-1)
    status, done = FINISHED, 0
    for _ in range(words[STEPS]):
        for i in range(words[UPDATE]):
            call(table[i, 0], pointer(table[i, 1], "int64"))
        if words[LOSSES] != 0:
            total = 0.0
            for share in range(words[SHARES]):
                total += carray(pointer(losses[share], "float64"), (1,))[0]
            if not np.isfinite(total):
                status = NOT_FINITE
                break
        for i in range(words[UPDATE], words[CALLS]):
            call(table[i, 0], pointer(table[i, 1], "int64"))
        done += 1
    set_flush_to_zero(control)
    words[DONE] = done
    words[STATUS] = status


@njit(**FLAGS)
def barrier(words: Any) -> None:
    """Wait for the other threads; words: address of (arrived, round), threads, sched_yield."""
    arrived = pointer(words[0], "int64")
    turn = pointer(words[0] + 64, "int64")  # a cache line of its own
    round_ = atomic_load(turn)
    if atomic_add(arrived, 1) == words[1] - 1:
        atomic_add(arrived, -words[1])
        atomic_add(turn, 1)
        return
    spins = 0
    while atomic_load(turn) == round_:
        relax(spins > _SPINS, words[2])
        spins += 1


@njit(**FLAGS)
def post(words: Any) -> None:
    """Put programs into mailboxes; words: how many, then (mailbox, program's words) of each.

    The words of a program become 0 where its thread need not be woken.
    """
    for i in range(words[0]):
        box = words[1 + 2 * i]
        atomic_exchange(pointer(box + 8 * JOB, "int64"), words[2 + 2 * i])
        if atomic_exchange(pointer(box + 8 * ASLEEP, "int64"), 0) == 0:
            words[2 + 2 * i] = 0


@njit(**FLAGS)
def lead(words: Any) -> None:
    """Run a program, then wait for those that were posted; words: as of post, and behind them two.

    These are the address of the own program's words, and of sched_yield.
    """
    own = 1 + 2 * words[0]
    run(carray(pointer(words[own], "int64"), (16,)))
    for i in range(words[0]):
        job, spins = pointer(words[1 + 2 * i] + 8 * JOB, "int64"), 0
        while atomic_load(job) != 0:
            relax(spins > _SPINS, words[own + 1])
            spins += 1


@njit(**FLAGS)
def serve(words: Any) -> None:
    """Run what comes to a mailbox until nothing came for a while; words: mailbox, sched_yield."""
    job = pointer(words[0] + 8 * JOB, "int64")
    asleep = pointer(words[0] + 8 * ASLEEP, "int64")
    spins = 0
    while True:
        program = atomic_load(job)
        if program != 0:
            run(carray(pointer(program, "int64"), (16,)))
            atomic_exchange(job, 0)
            spins = 0
        elif spins < _LINGER:
            relax(spins > _SPINS, words[1])
            spins += 1
        else:
            atomic_exchange(asleep, 1)
            # A program that was posted just before is run at once, unless the thread that posted it
            # has seen the flag and is about to wake another.
            if atomic_add(job, 0) == 0 or atomic_exchange(asleep, 0) == 0:
                return
            spins = 0


_SOURCE = '''"""Entry point of {name}, written by gpubp."""
from numba import carray, cfunc
from gpubp.kernels.numba.compiled import ENTRY_FLAGS
from gpubp.kernels.numba.runner import {name} as body

@cfunc("void(CPointer(int64))", **ENTRY_FLAGS)
def entry(args):
    body(carray(args, (16,)))
'''


@cache
def address(name: str) -> int:
    """Return the address of one of the functions here, compiling it if it never was."""
    return compiled.compile_entry(*entry(name))


def entry(name: str) -> tuple[str, str]:
    """Return the name and source of the entry point of one of the functions here."""
    return f"runner_{name}", _SOURCE.format(name=name)


@cache
def sched_yield() -> int:
    """Return the address of the C library's ``sched_yield``."""
    function = ctypes.CDLL(None).sched_yield
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)
