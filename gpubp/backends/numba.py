"""The fast CPU backend: whole epochs in compiled code, the minibatch split over threads.

Each thread has a program: the plan for its rows, then its slice of the update. It works on its own
transient memory and, but for the first, on its own gradients, counters and sums; parameters and
optimizer state are shared. Two barriers a step keep them together: before the update, where the
gradients of all threads are added slice by slice, and after it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.backends.base import Array, Backend, Executable, Interruptible, Outcome, Vectors
from gpubp.errors import InputError
from gpubp.kernels.contract import Shape
from gpubp.kernels.numba import blas, compiled, eager, entry, runner
from gpubp.plan.build import Rows
from gpubp.plan.ir import (
    COUNTERS,
    COUNTS,
    DATA,
    GRADS,
    PARTIALS,
    SUMS,
    TRANSIENT,
    Buffer,
    Call,
    Plan,
)  # fmt: skip
from gpubp.plan.memory import ALIGNMENT, Layout, place
from gpubp.plan.verify import verify

Vector = NDArray[Any]

# A step of fewer operations than this is not worth the barriers of a second thread, and a thread
# should have so many rows at least. Measured on two cores; see bench/README.md.
MINIMUM_FLOPS = 1_000_000
MINIMUM_ROWS = 8
_OWN = (GRADS, COUNTERS, SUMS, COUNTS)  # what each thread has a copy of


class NumbaBackend(Backend):
    """Runs plans in compiled code.

    Args:
        threads: how many threads may share a minibatch. Results depend on it in the last bits, so
            it is kept in checkpoints.

    Raises:
        InputError: ``threads`` is not a whole number above 0.
    """

    name = "numba"
    xp = np

    def __init__(self, threads: int) -> None:
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise InputError(f"threads must be a whole number at least 1, got {threads!r}")
        self.threads = threads
        self.pool = Interruptible(self.threads)

    def zeros(self, length: int, dtype: str) -> Array:
        """Return a new flat array of zeros, aligned to a cache line."""
        return _aligned(length, dtype)

    def to_device(self, array: Array) -> Array:
        """Return the array: host and device are one."""
        return np.asarray(array)

    def to_host(self, array: Array) -> Any:
        """Return the array: host and device are one."""
        return array

    def has(self, kernel: str) -> bool:
        """Return whether there is a Numba version."""
        return entry.implements(kernel)

    def call(self, kernel: str, operands: Sequence[Array | None], **scalars: float) -> None:
        """Run one kernel."""
        eager.run(kernel, operands, scalars)

    def shares(self, plan: Plan) -> tuple[Rows, ...]:
        """Split the rows evenly over threads where there is enough work for them.

        The rule looks at the plan alone, so that a run is the same on every machine with as many
        threads.
        """
        count = min(self.threads, plan.rows // MINIMUM_ROWS) if plan.flops >= MINIMUM_FLOPS else 1
        count = max(1, count)
        bounds = [plan.rows * part // count for part in range(count + 1)]
        return tuple(Rows(plan.rows, first, last - first) for first, last in pairwise(bounds))

    def prepare(self, plans: Sequence[Plan]) -> NumbaExecutable:
        """Return plans made ready to run."""
        return NumbaExecutable(self, plans)


@dataclass
class _Thread:
    """One thread's plan, memory and program."""

    plan: Plan
    layout: Layout
    transient: dict[str, Vector]
    vectors: dict[str, Vector] = field(default_factory=dict)
    rows: list[tuple[int, Vector]] = field(default_factory=list)  # entry address, words
    update: int = 0
    table: Vector = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    words: Vector = field(default_factory=lambda: np.zeros(16, np.int64))


class NumbaExecutable(Executable):
    """Programs, one a thread."""

    def __init__(self, backend: NumbaBackend, plans: Sequence[Plan]) -> None:
        super().__init__(plans)
        self.backend = backend
        self._threads = [self._thread(plan) for plan in plans]
        self._partials = _aligned(len(plans), "float64")
        self._flags = np.zeros(32, np.int64)  # stop, halt, and the barrier's two words
        self._losses = np.zeros(len(plans), np.int64)
        self._run = compiled.c_function(runner.address("run"))

    @staticmethod
    def _thread(plan: Plan) -> _Thread:
        layout = place(plan)
        verify(plan, layout)
        return _Thread(
            plan,
            layout,
            {dtype: _aligned(length, dtype) for dtype, length in layout.lengths.items()},
        )

    def bind(self, vectors: Vectors, data: Vectors) -> None:
        """Write every thread's program with the addresses of these arrays."""
        self._take_data(data)
        for number, thread in enumerate(self._threads):
            own = {
                name: _aligned(vectors[name].size, vectors[name].dtype.name)
                for name in _OWN
                if number > 0 and name in vectors
            }
            thread.vectors = {**vectors, **own, PARTIALS: self._partials}
        for number, thread in enumerate(self._threads):
            self._write_program(number, thread)

    def run(self, steps: int) -> Outcome:
        """Run every thread's program for ``steps`` steps."""
        self._flags[:2] = 0
        for thread in self._threads:
            thread.words[runner.STEPS] = steps
        main = self._threads[0]
        for thread in self._threads[1:]:
            thread.vectors[COUNTERS][:] = main.vectors[COUNTERS]
        jobs = [partial(self._run, thread.words.ctypes.data) for thread in self._threads]
        with blas.one_thread():
            self.backend.pool.run(jobs, self._request_stop)
        reasons = {
            runner.FINISHED: "finished", runner.HALTED: "stopped", runner.NOT_FINITE: "not finite"
        }  # fmt: skip
        status, done = (int(main.words[word]) for word in (runner.STATUS, runner.DONE))
        return Outcome(done, reasons[status])  # type: ignore[arg-type]

    def total(self, buffer: Buffer) -> float:
        """Return a sum or count over all threads."""
        return float(sum(self._view(thread, buffer)[0] for thread in self._threads))

    def fold(self) -> None:
        """Add the other threads' sums and counts to the first's, which are the bound vectors."""
        for thread in self._threads[1:]:
            for name in (SUMS, COUNTS):
                self._threads[0].vectors[name][:] += thread.vectors[name]
                thread.vectors[name][:] = 0

    def execute(self, index: int) -> float:
        """Run one call of the first plan."""
        thread = self._threads[0]
        address, words = self._row(thread, thread.plan.calls[index])
        function = compiled.c_function(address)
        with blas.one_thread():
            start = time.perf_counter()
            function(words.ctypes.data)
            return time.perf_counter() - start

    def operand(self, buffer: Buffer) -> Array:
        """Return a buffer of the first plan as a view."""
        return self._view(self._threads[0], buffer)

    def _request_stop(self) -> None:
        self._flags[0] = 1

    def _view(self, thread: _Thread, buffer: Buffer) -> Vector:
        flat: Vector
        if buffer.region == DATA:
            flat = self.data[buffer.name]
            return flat
        if buffer.region == TRANSIENT:
            flat, start = thread.transient[buffer.dtype], thread.layout.offsets[buffer]
        else:
            flat, start = thread.vectors[buffer.region], buffer.offset
        return flat[start : start + buffer.size].reshape(buffer.shape)

    def _row(
        self, thread: _Thread, call: Call, views: Sequence[Vector | None] | None = None
    ) -> tuple[int, Vector]:
        """Return the entry point and the argument words of a call."""
        if views is None:
            views = [None if b is None else self._view(thread, b) for b in call.operands]
        variant = entry.Variant(
            call.kernel, tuple(None if view is None else view.dtype.name for view in views)
        )
        places: list[tuple[int, Shape] | None] = [
            None if view is None else (view.ctypes.data, view.shape) for view in views
        ]
        words = entry.words(call.contract, places, dict(call.scalars), variant.working_dtype)
        return entry.address(variant), np.array(words, np.int64)

    def _write_program(self, number: int, thread: _Thread) -> None:
        plan, shared = thread.plan, len(self._threads) > 1
        rows = [self._row(thread, call) for call in plan.forward + plan.backward]
        if plan.update:
            if shared:
                rows.append(self._barrier())
            thread.update = len(rows)
            rows += self._update_rows(number, thread)
            if shared:
                if number == 0:
                    rows.append(self._poll())
                rows.append(self._barrier())
        else:
            thread.update = len(rows)
        thread.rows = rows
        thread.table = np.array([(a, words.ctypes.data) for a, words in rows], np.int64)
        self._losses[number] = (
            self._view(thread, plan.loss).ctypes.data if plan.loss is not None else 0
        )
        in_step = shared and bool(plan.update)
        watched = plan.loss is not None and bool(plan.update)
        words = thread.words
        words[runner.TABLE], words[runner.CALLS] = thread.table.ctypes.data, len(rows)
        words[runner.UPDATE], words[runner.THREADS] = thread.update, len(self._threads)
        words[runner.LOSSES] = self._losses.ctypes.data if watched else 0
        words[runner.HALT] = self._flags.ctypes.data + (8 if in_step else 0)

    def _update_rows(self, number: int, thread: _Thread) -> list[tuple[int, Vector]]:
        """Return the calls of a thread's part of the update.

        Whatever runs over parameters runs over this thread's slice of them; the first of it is to
        add the other threads' gradients. Counters are the thread's own, so each advances its own.
        """
        count = len(self._threads)
        rows = []
        if count > 1:
            grads = self._threads[0].vectors[GRADS]
            part = self._slice(number)
            for other in self._threads[1:]:
                parts = [other.vectors[GRADS][part], grads[part]]
                rows.append(self._row(thread, Call("add", (None, None)), parts))
        reduced = False
        for call in thread.plan.update:
            if reduced and any(b is not None and b.region == PARTIALS for b in call.reads()):
                rows.append(self._barrier())
                reduced = False
            views = [self._shared_view(number, thread, call, buffer) for buffer in call.operands]
            rows.append(self._row(thread, call, views))
            reduced |= count > 1 and any(b.region == PARTIALS for b in call.writes())
        return rows

    def _shared_view(
        self, number: int, thread: _Thread, call: Call, buffer: Buffer | None
    ) -> Vector | None:
        """Return what of a buffer of the update is this thread's to work on."""
        if buffer is None:
            return None
        if buffer.region == PARTIALS:
            own = buffer in tuple(call.writes())
            return self._partials[number : number + 1] if own else self._partials
        if buffer.region in (DATA, TRANSIENT, COUNTERS, SUMS, COUNTS):
            return self._view(thread, buffer)
        # Parameters, gradients and optimizer state: of what the call covers of the one vector for
        # all, that which lies in this thread's slice of the vector.
        mine = self._slice(number)
        start, stop = max(mine.start, buffer.offset), min(mine.stop, buffer.offset + buffer.size)
        return self._threads[0].vectors[buffer.region][start : max(start, stop)]

    def _slice(self, number: int) -> slice:
        """Return a thread's part of the flat parameter vector, cut where cache lines end."""
        count, length = len(self._threads), self._threads[0].vectors[GRADS].size
        lines = -(-length // ALIGNMENT)
        start, stop = (
            min(length, lines * part // count * ALIGNMENT) for part in (number, number + 1)
        )
        return slice(start, stop)

    def _barrier(self) -> tuple[int, Vector]:
        place = self._flags.ctypes.data + 64
        words = np.zeros(16, np.int64)
        words[:3] = place, len(self._threads), runner.sched_yield()
        return runner.address("barrier"), words

    def _poll(self) -> tuple[int, Vector]:
        words = np.zeros(16, np.int64)
        words[:2] = self._flags.ctypes.data, self._flags.ctypes.data + 8
        return runner.address("poll"), words


def _aligned(length: int, dtype: str) -> Vector:
    """Return zeros that start at a cache line."""
    raw = np.zeros(length * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + length * np.dtype(dtype).itemsize].view(dtype)
