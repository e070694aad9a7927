"""Writes plans as programs of the compiled runner: tables of entry points and argument words.

A plan is cut into stages: the gradients of a share's rows first, then the stages of the update.
Within a stage the shares do not touch each other's memory, so they may run side by side on threads
that meet at a barrier after each stage, or one after the other on one thread. Both ways do the same
additions in the same order, and so give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpubp.backends.base import Array, Vectors, part
from gpubp.kernels.bfloat16 import stored
from gpubp.kernels.contract import Shape
from gpubp.kernels.numba import entry, runner
from gpubp.plan.build import SLOT
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
    Number,
    Plan,
)  # fmt: skip
from gpubp.plan.memory import ALIGNMENT, place
from gpubp.plan.verify import verify

Vector = NDArray[np.generic]

OWN = (GRADS, COUNTERS)  # what every share has of its own; the first has the bound ones


@dataclass(frozen=True)
class Row:
    """One call: the address of an entry point and its argument words."""

    address: int
    words: NDArray[np.int64]


class Share:
    """One share of the minibatch: its plan and the memory that its calls work on."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        # Not in place: a loop on overlapping arrays fails the compiler's check for it and runs
        # scalar, up to five times slower.
        self.layout = place(plan, take_over=False)
        verify(plan, self.layout)
        self.transient = {
            dtype: aligned(length, dtype) for dtype, length in self.layout.lengths.items()
        }
        self.vectors: dict[str, Array] = {}
        self.data: dict[str, Array] = {}

    def bind(self, vectors: Vectors, data: Vectors, number: int) -> None:
        """Take the bound vectors as the share of this number; what is not common is its own."""
        slot = slice(number * SLOT, (number + 1) * SLOT)
        own = {name: vectors[name][slot] for name in (SUMS, COUNTS) if name in vectors}
        for name in OWN:
            if number and name in vectors:
                own[name] = aligned(vectors[name].size, vectors[name].dtype.name)
        self.vectors, self.data = {**vectors, **own}, dict(data)

    def view(self, buffer: Buffer) -> Array:
        """Return a buffer as an array."""
        if buffer.region == DATA:
            return self.data[buffer.name]
        return part(buffer, self.transient, self.layout, self.vectors).reshape(buffer.shape)

    def row(self, call: Call) -> Row:
        """Return a call on this share's memory as a row."""
        views = [None if b is None else self.view(b) for b in call.operands]
        return make_row(call.kernel, views, _dtypes(call), dict(call.scalars))


@dataclass
class Program:
    """A table of rows and the words of the runner's call on it."""

    rows: list[Row]
    table: NDArray[np.int64] = field(init=False)
    words: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        pairs = [(row.address, row.words.ctypes.data) for row in self.rows]
        self.table = np.array(pairs, np.int64)
        self.words = np.zeros(16, np.int64)
        self.words[runner.TABLE], self.words[runner.CALLS] = self.table.ctypes.data, len(pairs)


class Writer:
    """Writes the programs of bound shares."""

    def __init__(
        self, shares: Sequence[Share], partials: Array, barrier: NDArray[np.int64]
    ) -> None:
        self.shares = shares
        self.partials = partials  # one element a share
        self.barrier = barrier  # two cache lines
        self.stages = [self._stages(number, share) for number, share in enumerate(shares)]
        self.losses = np.array(
            [share.view(share.plan.loss).ctypes.data if share.plan.loss else 0 for share in shares],
            np.int64,
        )

    def serial(self) -> Program:
        """Return the program of one thread for all shares."""
        rows = [
            row for stages in zip(*self.stages, strict=True) for stage in stages for row in stage
        ]
        return self._program(rows, sum(len(stages[0]) for stages in self.stages))

    def parallel(self) -> list[Program]:
        """Return the programs of as many threads as there are shares."""
        programs = []
        for gradients, *update in self.stages:
            rows = list(gradients)
            for stage in update:
                rows += [self._barrier(), *stage]
            if update:
                rows.append(self._barrier())
            programs.append(self._program(rows, len(gradients) + bool(update)))
        return programs

    def _program(self, rows: list[Row], update: int) -> Program:
        program, plan = Program(rows), self.shares[0].plan
        watched = plan.loss is not None and bool(plan.update)
        program.words[runner.UPDATE], program.words[runner.SHARES] = update, len(self.shares)
        program.words[runner.LOSSES] = self.losses.ctypes.data if watched else 0
        return program

    def _stages(self, number: int, share: Share) -> list[list[Row]]:
        """Return a share's gradients and its part of the update, cut where shares must meet.

        Whatever runs over parameters runs over this share's slice of them, after the other
        shares' gradients were added to it. A reduction over parameters leaves a partial result
        for each share; whoever reads those comes a stage later. Counters are the share's own, so
        each share advances its own.
        """
        plan = share.plan
        stages = [[share.row(call) for call in plan.forward + plan.backward]]
        if not plan.update:
            return stages
        stages.append(self._sums_of_gradients(number))
        reduced = False
        for call in plan.update:
            if reduced and any(buffer.region == PARTIALS for buffer in call.reads()):
                stages.append([])
                reduced = False
            stages[-1].append(self._row_of_update(number, call))
            reduced |= any(buffer.region == PARTIALS for buffer in call.writes())
        return stages

    def _sums_of_gradients(self, number: int) -> list[Row]:
        first, *others = (share.vectors[GRADS][self._slice(number)] for share in self.shares)
        dtypes = (first.dtype.name,) * 2
        return [make_row("add", [other, first], dtypes, {}) for other in others]

    def _row_of_update(self, number: int, call: Call) -> Row:
        """Return a share's part of a call of the update."""
        views = [self._part(number, call, buffer) for buffer in call.operands]
        scalars = dict(call.scalars)
        if "decaying" in scalars:  # of the elements of this part, and none before it
            params = call.named()["params"]
            assert params is not None  # not optional in any contract
            before = self._slice(number).start - params.offset
            scalars["decaying"] = max(0, int(scalars["decaying"]) - max(0, before))
        return make_row(call.kernel, views, _dtypes(call), scalars)

    def _part(self, number: int, call: Call, buffer: Buffer | None) -> Array | None:
        """Return what of an operand of the update is a share's to work on."""
        if buffer is None:
            return None
        if buffer.region == PARTIALS:
            written = buffer in tuple(call.writes())
            return self.partials[number : number + 1] if written else self.partials
        if buffer.region in (DATA, TRANSIENT, COUNTERS, SUMS, COUNTS):
            return self.shares[number].view(buffer)
        # Parameters, gradients and optimizer state: of what the call covers of the one vector for
        # all, that which lies in this share's slice of the vector.
        mine = self._slice(number)
        start, stop = max(mine.start, buffer.offset), min(mine.stop, buffer.offset + buffer.size)
        return self.shares[0].vectors[buffer.region][start : max(start, stop)]

    def _slice(self, number: int) -> slice:
        """Return a share's part of the flat parameter vector, cut where cache lines end."""
        count, length = len(self.shares), self.shares[0].vectors[GRADS].size
        lines = -(-length // ALIGNMENT)
        start, stop = (
            min(length, lines * part // count * ALIGNMENT) for part in (number, number + 1)
        )
        return slice(start, stop)

    def _barrier(self) -> Row:
        words = [self.barrier.ctypes.data, len(self.shares), runner.sched_yield()]
        return Row(runner.address("barrier"), np.array(words, np.int64))


def _dtypes(call: Call) -> tuple[str | None, ...]:
    return tuple(None if buffer is None else buffer.dtype for buffer in call.operands)


def make_row(
    kernel: str,
    views: Sequence[Array | None],
    dtypes: tuple[str | None, ...],
    scalars: Mapping[str, Number],
) -> Row:
    """Return a call on these arrays as a row; those of bfloat16 are of its bits."""
    variant = entry.Variant(kernel, dtypes)
    places: list[tuple[int, Shape] | None] = [
        None if view is None else (view.ctypes.data, view.shape) for view in views
    ]
    words = entry.words(variant, places, scalars)
    return Row(entry.address(variant), np.array(words, np.int64))


def aligned(length: int, dtype: str) -> Array:
    """Return zeros that start at a cache line."""
    kind = np.dtype(stored(dtype))
    raw = np.zeros(length * kind.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + length * kind.itemsize].view(kind)
