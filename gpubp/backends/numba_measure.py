"""Times products and training steps in the ways in which the Numba backend can compute them.

All on arrays of its own: nothing of a user's is read or written.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gpubp.backends.base import Array
from gpubp.backends.kept import Times
from gpubp.backends.numba_program import Program, aligned, dtypes_of, make_row
from gpubp.kernels import bfloat16
from gpubp.kernels.numba import blas, compiled, runner
from gpubp.plan.build import SLOT
from gpubp.plan.ir import ANY, COUNTERS, COUNTS, DATA, PARTIALS, SUMS, TRANSIENT, Call, Plan

if TYPE_CHECKING:
    from gpubp.backends.numba import NumbaExecutable

_PRODUCT_SECONDS = 0.003  # for all routines of a product; at least two turns of each
_TURN_SECONDS = 50e-6
_STEPS_SECONDS = 0.2  # for all ways to run a step; at least some turns of each
_TURN_OF_STEPS_SECONDS = 0.004
_STEPS, _TURNS, _LEAST_TURNS = 200, 8, 2  # steps of a turn, at most, and turns of each way
_ROWS = 1 << 16  # of all steps of a turn, at most, but for one step: they have an order in memory
_UNDISTURBED = 0.9  # of the time on the clock, at least, the threads computed
_LENGTH = 1 << 16  # of the random numbers that arrays are filled with, over and over


def routines(call: Call, names: Sequence[str]) -> Times:
    """Return how long a product takes by each routine, on random numbers.

    It is the processor's time of this thread, so that what else runs on the machine counts little,
    and the least of turns that alternate.
    """
    views = [None if b is None else _filled(b.shape, b.dtype) for b in call.operands]
    scalars = dict(call.scalars)
    rows = {name: make_row(call.kernel, views, dtypes_of(call), scalars, name) for name in names}
    programs = {name: Program([row]) for name, row in rows.items()}
    for program in programs.values():
        program.words[runner.UPDATE] = 1
    run = compiled.c_function(runner.address("run"))

    def turn(program: Program, calls: int) -> float:
        program.words[runner.STEPS] = calls
        start = time.thread_time()
        run(program.words.ctypes.data)
        return (time.thread_time() - start) / calls

    with blas.one_thread():
        least = {name: turn(program, 1) for name, program in programs.items()}  # loads code, too
        turns, until = 0, time.thread_time() + _PRODUCT_SECONDS
        while not turns or time.thread_time() < until:
            for name, program in programs.items():
                calls = max(1, int(_TURN_SECONDS / max(least[name], 1e-9)))
                least[name] = min(least[name], turn(program, calls))
            turns += 1
    return least


def steps(executables: Mapping[str, NumbaExecutable]) -> Times:
    """Return how long a training step takes by each executable, on data made for it.

    It is the time on the clock, for threads wait for each other, and the least of turns: with the
    shares side by side, or one after the other if that is less. One whose threads never had a
    processor each is left out, because that says nothing of it.
    """
    plans = next(iter(executables.values())).plans
    most = max(1, min(_STEPS, _ROWS // sum(plan.rows for plan in plans)))
    counters, data = {}, _data(plans, most)
    for name, executable in executables.items():
        vectors = _vectors(executable.plans)
        executable.bind(vectors, data)
        counters[name] = vectors[COUNTERS]
    ways = [
        (name, parallel)
        for name, executable in executables.items()
        for parallel in (False, True)[: len(executable.plans)]
    ]
    least, count = dict.fromkeys(ways, math.inf), dict.fromkeys(ways, 1)
    started = time.perf_counter()
    for number in range(_TURNS):
        if number >= _LEAST_TURNS and time.perf_counter() - started > _STEPS_SECONDS:
            break
        for way in ways:
            name, parallel = way
            counters[name][:] = 0
            seconds, disturbed = _turn(executables[name], parallel, count[way])
            count[way] = max(1, min(most, int(_TURN_OF_STEPS_SECONDS / seconds)))
            if not disturbed:
                least[way] = min(least[way], seconds)
    times = {name: [least[way] for way in ways if way[0] == name] for name in executables}
    return {name: min(found) for name, found in times.items() if math.inf not in found}


def _turn(executable: NumbaExecutable, parallel: bool, steps: int) -> tuple[float, bool]:
    """Return how long a step took, and whether a thread had to wait for a processor."""
    start, used = time.perf_counter(), time.process_time()
    executable.segment(parallel, steps)
    used, taken = time.process_time() - used, time.perf_counter() - start
    threads = len(executable.plans) if parallel else 1
    return taken / steps, used < _UNDISTURBED * threads * taken


def _vectors(plans: Sequence[Plan]) -> dict[str, Array]:
    """Return zeros for all that outlives a step."""
    lengths: dict[tuple[str, str], int] = {}
    for buffer in plans[0].buffers:
        key = buffer.region, buffer.dtype
        lengths[key] = max(lengths.get(key, 0), buffer.offset + buffer.size)
    return {
        region: aligned(SLOT * len(plans) if region in (SUMS, COUNTS) else length, dtype)
        for (region, dtype), length in lengths.items()
        if region not in (TRANSIENT, DATA, PARTIALS)
    }


def _data(plans: Sequence[Plan], steps: int) -> dict[str, Array]:
    """Return a minibatch, its rows in the order of that many steps, and rates of 0."""
    rows = sum(plan.rows for plan in plans)
    lengths = {"permutation": steps * rows, "rates": steps}
    made: dict[str, Array] = {}
    for name, buffer in plans[0].data().items():
        shape = tuple(lengths.get(name, rows) if n == ANY else n for n in buffer.shape)
        whole = buffer.dtype.startswith("int") or name == "rates"
        made[name] = np.zeros(shape, buffer.dtype) if whole else _filled(shape, buffer.dtype)
    made["permutation"][:] = np.tile(np.arange(rows), steps)
    return made


def _filled(shape: tuple[int, ...], dtype: str) -> Any:
    """Return an array of random numbers from 0 to 1."""
    numbers = np.random.default_rng(0).random(_LENGTH, np.float32)
    filling = bfloat16.from_float32(numbers) if dtype == "bfloat16" else numbers
    array = aligned(math.prod(shape), dtype)
    for start in range(0, array.size, _LENGTH):  # a stretch at a time: no copy of the whole
        part = array[start : start + _LENGTH]
        part[:] = filling[: part.size]
    return array.reshape(shape)
