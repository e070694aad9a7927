"""The compiled loop over a plan's steps, and what its threads need to keep in step.

A program is a table of (address of an entry point, address of its argument words), one row a call.
One thread runs one program. Where several run side by side, their programs contain calls of
``barrier``: after the gradients, so that each thread may then add up and update its slice of the
parameters, and at the end of the step.
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
    atomic_load,
    call,
    pointer,
    relax,
    set_flush_to_zero,
)  # fmt: skip

# What the words of ``run`` mean, in order. ``UPDATE`` is the index of the first call that changes
# the parameters; ``LOSSES`` the address of the addresses of every share's loss sum (0: a program
# without a loss to watch); ``HALT`` of the flag that ends the run after a step.
TABLE, CALLS, UPDATE, STEPS, LOSSES, SHARES, HALT, DONE, STATUS = range(9)
FINISHED, HALTED, NOT_FINITE = range(3)
_SPINS = 4000  # some ten microseconds of waiting before the processor is offered to others


@njit(**FLAGS)
def run(words: Any) -> None:
    """Run a program for a number of steps, denormals flushed to zero.

    Ends early after a step when the halt flag is up, and before a step's update when the sum of
    the losses is not finite; in both cases the parameters are those of the last finished step.
    """
    table = carray(pointer(words[TABLE], "int64"), (words[CALLS], 2))
    losses = carray(pointer(words[LOSSES], "int64"), (words[SHARES],))
    halt = carray(pointer(words[HALT], "int64"), (1,))
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
        if halt[0] != 0:
            status = HALTED
            break
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
def poll(words: Any) -> None:
    """Copy the stop flag to the halt flag: one thread decides, just before a barrier, for all."""
    halt = carray(pointer(words[1], "int64"), (1,))
    halt[0] = atomic_load(pointer(words[0], "int64"))


_SOURCE = '''"""Entry point of {name}, written by gpubp; Numba keeps its code beside it."""
from numba import carray, cfunc
from gpubp.kernels.numba.compiled import FLAGS
from gpubp.kernels.numba.runner import {name} as body

@cfunc("void(CPointer(int64))", cache=True, **FLAGS)
def entry(args):
    body(carray(args, (16,)))
'''


@cache
def address(name: str) -> int:
    """Return the address of ``run``, ``barrier`` or ``poll``, compiling it if it never was."""
    return compiled.compile_entry(f"runner_{name}", _SOURCE.format(name=name))


@cache
def sched_yield() -> int:
    """Return the address of the C library's ``sched_yield``."""
    function = ctypes.CDLL(None).sched_yield
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)
