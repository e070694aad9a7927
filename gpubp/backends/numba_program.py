"""Writes plans as programs of the compiled runner: tables of entry points and argument words.

A plan is cut into stages: the gradients of a share's rows first, then the stages of the update.
Within a stage the shares do not touch each other's memory, so they may run side by side on threads
that meet at a barrier after each stage, or one after the other on one thread. Both ways do the same
additions in the same order, and so give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpubp.backends.base import Array, Vectors, part
from gpubp.kernels.bfloat16 import stored
from gpubp.kernels.contract import Shape
from gpubp.kernels.numba import ahead, entry, gemm, order, runner, tile
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
_APART = (DATA, TRANSIENT, COUNTERS, SUMS, COUNTS, PARTIALS)  # not over the parameters


@dataclass(frozen=True)
class Row:
    """One call: the address of an entry point and its argument words."""

    address: int
    words: NDArray[np.int64]


class Share:
    """One share of the minibatch: its plan and the memory that its calls work on.

    ``routine`` names what computes a call that is a product.
    """

    def __init__(self, plan: Plan, routine: Callable[[Call], str]) -> None:
        self.plan = plan
        self._routine = routine
        # Not in place: a loop on overlapping arrays fails the compiler's check for it and runs
        # scalar, up to five times slower.
        self.layout = place(plan, take_over=False)
        verify(plan, self.layout)
        self.transient = {
            dtype: aligned(length, dtype) for dtype, length in self.layout.lengths.items()
        }
        self.placed: dict[str, Array] = {}  # by name: what lies elsewhere than its plan says
        self.vectors: dict[str, Array] = {}
        self.data: dict[str, Array] = {}

    def bind(self, vectors: Vectors, data: Vectors, number: int) -> None:
        """Take the bound vectors as the share of this number; what is not common is its own."""
        slot = slice(number * SLOT, (number + 1) * SLOT)
        own = {name: vectors[name][slot] for name in (SUMS, COUNTS) if name in vectors}
        own[PARTIALS] = aligned(1, "float64")  # of a call that runs by itself; else the writer's
        for name in OWN:
            if number and name in vectors:
                own[name] = aligned(vectors[name].size, vectors[name].dtype.name)
        self.vectors, self.data = {**vectors, **own}, dict(data)

    def view(self, buffer: Buffer) -> Array:
        """Return a buffer as an array."""
        if buffer.region == DATA:
            return self.data[buffer.name]
        if buffer.name in self.placed:
            return self.placed[buffer.name]
        return part(buffer, self.transient, self.layout, self.vectors).reshape(buffer.shape)

    def row(self, call: Call) -> Row:
        """Return a call on this share's memory as a row."""
        views = [None if b is None else self.view(b) for b in call.operands]
        scalars = dict(call.scalars)
        return make_row(call.kernel, views, dtypes_of(call), scalars, self._routine(call))


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

    def __init__(self, shares: Sequence[Share], barrier: NDArray[np.int64]) -> None:
        self.shares = shares
        self.barrier = barrier  # two cache lines
        numbers = range(len(shares))
        # Of one share or thread after the other, its slices of the flat vector over parameters.
        self._slices = [self._own(number) for number in numbers]
        self.partials = aligned(sum(map(len, self._slices)), "float64")
        self.gradients = [self._gradients(number) for number in numbers]
        self.updates = [self._updates(number) for number in numbers]
        self.losses = np.array(
            [share.view(share.plan.loss).ctypes.data if share.plan.loss else 0 for share in shares],
            np.int64,
        )

    def serial(self) -> Program:
        """Return the program of one thread for all shares."""
        gradients, updates = (
            [row for stages in zip(*of_shares, strict=True) for stage in stages for row in stage]
            for of_shares in (self.gradients, self.updates)
        )
        return self._program(gradients + updates, len(gradients))

    def parallel(self) -> list[Program]:
        """Return the programs of as many threads as there are shares."""
        programs = []
        for first, second in zip(self.gradients, self.updates, strict=True):
            gradients = self._meeting(first)
            update = [self._barrier(), *self._meeting(second), self._barrier()] if second else []
            programs.append(self._program(gradients + update, len(gradients) + bool(second)))
        return programs

    def _meeting(self, stages: Sequence[list[Row]]) -> list[Row]:
        """Return stages as one, with a barrier between them."""
        rows = list(stages[0])
        for stage in stages[1:]:
            rows += [self._barrier(), *stage]
        return rows

    def _program(self, rows: list[Row], update: int) -> Program:
        program, plan = Program(rows), self.shares[0].plan
        watched = plan.loss is not None and bool(plan.update)
        program.words[runner.UPDATE], program.words[runner.SHARES] = update, len(self.shares)
        program.words[runner.LOSSES] = self.losses.ctypes.data if watched else 0
        return program

    def _gradients(self, number: int) -> list[list[Row]]:
        """Return the gradients of a share's rows, cut where shares must meet: nowhere."""
        share = self.shares[number]
        return [[share.row(call) for call in share.plan.forward + share.plan.backward]]

    def _updates(self, number: int) -> list[list[Row]]:
        """Return a share's part of the update, cut where shares must meet.

        Whatever runs over parameters runs over this share's slices of them, after the other
        shares' gradients were added to it. A reduction over parameters leaves a partial result
        for each slice; whoever reads those comes a stage later. Counters are the share's own, so
        each share advances its own.
        """
        plan = self.shares[number].plan
        if not plan.update:
            return []
        stages = [self._sums_of_gradients(number)]
        reduced = False
        for call in plan.update:
            if reduced and any(buffer.region == PARTIALS for buffer in call.reads()):
                stages.append([])
                reduced = False
            stages[-1] += self._rows_of_update(number, call)
            reduced |= any(buffer.region == PARTIALS for buffer in call.writes())
        return stages

    def _sums_of_gradients(self, number: int) -> list[Row]:
        """Return what adds the other shares' gradients to the first's, in a share's slices."""
        return [row for mine in self._slices[number] for row in self._sums(mine)]

    def _sums(self, mine: slice) -> list[Row]:
        first, *others = (share.vectors[GRADS][mine] for share in self.shares)
        dtypes = (first.dtype.name,) * 2
        return [make_row("add", [other, first], dtypes, {}) for other in others]

    def _rows_of_update(self, number: int, call: Call) -> list[Row]:
        """Return a share's part of a call of the update: a row for each of its slices."""
        before = sum(map(len, self._slices[:number]))
        if all(buffer is None or buffer.region in _APART for buffer in call.operands):
            return [self._row_of_update(number, call, slice(0, 0), before)]
        return [
            self._row_of_update(number, call, mine, before + index)
            for index, mine in enumerate(self._slices[number])
        ]

    def _row_of_update(self, number: int, call: Call, mine: slice, partial: int) -> Row:
        views = [self._part(number, call, buffer, mine, partial) for buffer in call.operands]
        scalars = dict(call.scalars)
        if "decaying" in scalars:  # of the elements of this part, and none before it
            params = call.named()["params"]
            assert params is not None  # not optional in any contract
            before = mine.start - params.offset
            scalars["decaying"] = max(0, int(scalars["decaying"]) - max(0, before))
        return make_row(call.kernel, views, dtypes_of(call), scalars)

    def _part(
        self, number: int, call: Call, buffer: Buffer | None, mine: slice, partial: int
    ) -> Array | None:
        """Return what of an operand of the update is a share's to work on."""
        if buffer is None:
            return None
        if buffer.region == PARTIALS:
            written = buffer in tuple(call.writes())
            return self.partials[partial : partial + 1] if written else self.partials
        if buffer.region in _APART:
            return self.shares[number].view(buffer)
        # Parameters, gradients and optimizer state: of what the call covers of the one vector for
        # all, that which lies in this slice of the vector.
        start, stop = max(mine.start, buffer.offset), min(mine.stop, buffer.offset + buffer.size)
        return self.shares[0].vectors[buffer.region][start : max(start, stop)]

    def _own(self, number: int) -> list[slice]:
        """Return a share's parts of the flat parameter vector: one, cut where cache lines end."""
        if not self.shares[0].plan.update:
            return []
        length = self.shares[0].vectors[GRADS].size
        return [portion(slice(0, length), number, len(self.shares))]

    def _barrier(self) -> Row:
        words = [self.barrier.ctypes.data, len(self.shares), runner.sched_yield()]
        return Row(runner.address("barrier"), np.array(words, np.int64))


def entries_of(plan: Plan, shares: int) -> list[ahead.Entry]:
    """Return the entry points that a plan in so many shares takes, those of tiles included."""
    variants = [entry.Variant(call.kernel, dtypes_of(call)) for call in plan.calls]
    multiplied = {call.operands[0] for call in plan.calls if entry.is_product(call.contract)}
    functions = ["run"]
    if shares > 1:
        functions += ["barrier", "post", "lead", "serve"]
        variants += [entry.Variant("add", (dtype,) * 2) for dtype in _dtypes(plan, GRADS)]
        # What shares by units have in place of a product with its bias.
        parts = [call.kernel.removeprefix("matmul_") for call in plan.calls if "c" in call.named()]
        whole = {"bias": "bias_add", "bias_relu": "bias_relu"}
        variants += [
            entry.Variant(whole[part], (dtype,) * 3)
            for part in dict.fromkeys(parts)
            for dtype in _dtypes(plan, GRADS)
            if part in whole
        ]
    if plan.update:  # of training, whose rows are shuffled
        variants.append(entry.Variant("random_bits", ("int64", "int64", "uint32")))
    tiles = sorted({a.dtype for a in multiplied if a is not None and a.dtype != "bfloat16"})
    return [
        *(gemm.entry(dtype) for dtype in tiles if tile.SUITED),
        *((variant.name, entry.source(variant)) for variant in dict.fromkeys(variants)),
        *map(runner.entry, functions),
        *([order.entry()] if plan.update else []),
    ]


def _dtypes(plan: Plan, region: str) -> list[str]:
    """Return the dtypes of a plan's buffers in a region."""
    return sorted({buffer.dtype for buffer in plan.buffers if buffer.region == region})


def portion(whole: slice, number: int, count: int, lines: int = ALIGNMENT) -> slice:
    """Return the part of this number of ``count``, cut at multiples of so many elements."""
    length = whole.stop - whole.start
    start, stop = (
        min(length, -(-length // lines) * part // count * lines) for part in (number, number + 1)
    )
    return slice(whole.start + start, whole.start + stop)


def dtypes_of(call: Call) -> tuple[str | None, ...]:
    """Return the dtypes of a call's operands, None of one that is absent."""
    return tuple(None if buffer is None else buffer.dtype for buffer in call.operands)


def make_row(
    kernel: str,
    views: Sequence[Array | None],
    dtypes: tuple[str | None, ...],
    scalars: Mapping[str, Number],
    routine: str = "",
) -> Row:
    """Return a call on these arrays as a row; those of bfloat16 are of its bits.

    ``routine`` is that of a product, by default the usual one.
    """
    places = [None if view is None else (view.ctypes.data, view.shape) for view in views]
    return row_at(kernel, places, dtypes, scalars, routine)


def row_at(
    kernel: str,
    places: Sequence[tuple[int, Shape] | None],
    dtypes: tuple[str | None, ...],
    scalars: Mapping[str, Number],
    routine: str = "",
) -> Row:
    """Return a call on what lies at these addresses, seen in these shapes, as a row."""
    variant = entry.Variant(kernel, dtypes)
    words = entry.words(variant, places, scalars, routine)
    return Row(entry.address(variant), np.array(words, np.int64))


def aligned(length: int, dtype: str) -> Array:
    """Return zeros that start at a cache line."""
    kind = np.dtype(stored(dtype))
    raw = np.zeros(length * kind.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + length * kind.itemsize].view(kind)
