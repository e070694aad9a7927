"""Splits a training step by units: every thread has some inputs of each layer, and their weights.

Split by rows, every thread reads all weights, half of which another has just written, and all add
up their gradients. Where there are more weights than outputs of layers, that is most of what they
have to tell each other. Split by units, a weight and its gradient stay where they are:

- z is the sum of the threads' x[:, u] W[u], each of all rows; a thread adds up some rows of it;
- dW[u] = x[:, u]ᵀ dz and dx[:, u] = dz W[u]ᵀ need no sum over threads.

What is done element by element, and the loss, is split by rows; so there is a barrier before a
product of what was, and one after it. (Shoeybi et al., "Megatron-LM", arXiv:1909.08053, section 3,
where such a layer is called row parallel.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from gpubp.backends.base import Array
from gpubp.backends.numba_program import (
    Row,
    Share,
    Writer,
    aligned,
    dtypes_of,
    make_row,
    portion,
    row_at,
)  # fmt: skip
from gpubp.kernels.numba import gemm
from gpubp.kernels.numba.tile import FROM_ZERO, SUITED
from gpubp.plan.ir import GRADS, PARAMS, TRANSIENT, Buffer, Call, Plan

LINE = 16  # units are divided at its multiples: whole vectors, and no cache line in common
_FORWARD, _WEIGHTS, _INPUTS = "z = x W", "dW = xᵀ dz", "dx = dz Wᵀ"  # the products of a layer
_KERNELS = {"matmul": "", "matmul_bias": "bias_add", "matmul_bias_relu": "bias_relu"}  # and then
_REGIONS, _REGIONS_OF_WEIGHTS = (TRANSIENT, PARAMS, TRANSIENT), (TRANSIENT, TRANSIENT, GRADS)


def divisible(plan: Plan, threads: int) -> bool:
    """Return whether a training step can be split by units among so many threads.

    Its products must be those of dense layers, computed by tiles, with enough units in each.
    """
    found = products(plan)
    if not (SUITED and plan.update and found and all(map(_role, found))):
        return False
    layers = [call for call in found if _role(call) == _FORWARD]
    # A sum without a bias is left where a thread adds it up: no other product finds it there.
    bare = {_operand(call, "c") for call in layers if call.kernel == "matmul"}
    read = {buffer for call in found for buffer in call.reads()}
    enough = all(_operand(call, "b").shape[0] >= LINE * threads for call in layers)
    return enough and plan.dtype != "bfloat16" and not bare & read


@dataclass(frozen=True)
class _Part:
    """What all threads do at once.

    It reads what others wrote under some names, and writes what others may read.
    """

    reads: set[str]
    writes: set[str]
    rows: Callable[[int], list[Row]]  # of the thread of a number


class UnitWriter(Writer):
    """Writes the programs of threads that divide the units.

    The shares are of as many rows as each thread has of what is done by rows.
    """

    def __init__(self, shares: Sequence[Share], barrier: NDArray[np.int64]) -> None:
        plan = shares[0].plan
        ends = [0, *accumulate(share.plan.rows for share in shares)]
        self._batch = ends[-1]
        self._rows = [slice(*bounds) for bounds in pairwise(ends)]
        self._products = products(plan)
        self._fetched = _only_multiplied(plan)
        # By name: the rows of all threads; and by thread, parts of a sum and fetched columns.
        self._whole = {
            buffer.name: self._array(buffer.shape[1], buffer.dtype)
            for call in self._products
            for buffer in call.operands
            if buffer is not None and buffer.region == TRANSIENT and len(buffer.shape) == 2
        }
        self._apart = [self._arrays_of(number) for number in range(len(shares))]
        for number, share in enumerate(shares):
            rows = self._rows[number]
            share.placed = {name: array[rows] for name, array in self._whole.items()}
            for call in self._products:
                if _role(call) == _FORWARD and call.kernel == "matmul":
                    name = _operand(call, "c").name
                    share.placed[name] = self._apart[number][_sum(name)][rows]
        super().__init__(shares, barrier)

    def _array(self, width: int, dtype: str) -> Array:
        return aligned(self._batch * width, dtype).reshape(self._batch, width)

    def _arrays_of(self, number: int) -> dict[str, Array]:
        """Return a thread's own arrays: of its parts of sums, and of the columns it fetches."""
        made = {}
        for call in self._products:
            if _role(call) == _FORWARD:
                a, c = _operand(call, "a"), _operand(call, "c")
                made[_sum(c.name)] = self._array(c.shape[1], c.dtype)
                if a.name in self._fetched:
                    units = self._units(number, a.shape[1])
                    made[a.name] = self._array(units.stop - units.start, a.dtype)
        return made

    def _units(self, number: int, inputs: int) -> slice:
        """Return which of a layer's inputs are a thread's."""
        return portion(slice(0, inputs), number, len(self._rows), LINE)

    def _gradients(self, number: int) -> list[list[Row]]:
        """Return a thread's part of forward and backward, cut where threads must meet."""
        return [
            [row for part in stage for row in part.rows(number)] for stage in _stages(self._parts())
        ]

    def _parts(self) -> Iterator[_Part]:
        by_units = {_operand(c, "c").name for c in self._products if _role(c) == _INPUTS}
        plans = [share.plan for share in self.shares]
        for calls in zip(*(plan.forward + plan.backward for plan in plans), strict=True):
            call, role = calls[0], _role(calls[0])
            if call.kernel == "gather" and _operand(call, "x").name in self._fetched:
                yield _Part(set(), set(), partial(self._fetch, call))
            elif role == _FORWARD:
                a, c = _operand(call, "a").name, _operand(call, "c").name
                yield _Part({a} - self._fetched, {_sum(c)}, partial(self._multiply, call))
                yield _Part({_sum(c)}, {c}, partial(self._add_up, calls))
            elif role:
                reads = {buffer.name for buffer in call.reads() if buffer.region == TRANSIENT}
                writes = {buffer.name for buffer in call.writes()} & self._whole.keys()
                yield _Part(reads - self._fetched, writes, partial(self._multiply, call))
            else:
                reads = {buffer.name for buffer in call.reads()} & by_units
                writes = {buffer.name for buffer in call.writes()} & self._whole.keys()
                yield _Part(reads, writes, partial(self._by_rows, calls))

    def _by_rows(self, calls: Sequence[Call], number: int) -> list[Row]:
        return [self.shares[number].row(calls[number])]

    def _fetch(self, call: Call, number: int) -> list[Row]:
        """Return the fetching of a thread's columns of all rows."""
        source, *index, x = (b for b in call.operands if b is not None)
        array = self.shares[number].view(source)
        units = self._units(number, x.shape[1])
        start = array.ctypes.data + units.start * array.itemsize
        views = [*map(self.shares[number].view, index), self._apart[number][x.name]]
        places = [(start, array.shape), *((view.ctypes.data, view.shape) for view in views)]
        return [row_at(call.kernel, places, dtypes_of(call), dict(call.scalars))]

    def _multiply(self, call: Call, number: int) -> list[Row]:
        """Return a thread's part of one of a layer's products."""
        a, b, c = (_operand(call, name) for name in "abc")
        if _role(call) == _FORWARD:
            whole = self._apart[number][_sum(c.name)]
            return [_product(self._columns(number, a), self._weights(number, b), whole)]
        if _role(call) == _WEIGHTS:
            x, gradient = self._columns(number, a), self._weights(number, c)
            return [_product(x, self._whole[b.name], gradient, transpose_a=True)]
        weights, dx = self._weights(number, b), self._columns(number, c)
        return [_product(self._whole[a.name], weights, dx, transpose_b=True)]

    def _columns(self, number: int, buffer: Buffer) -> Array:
        """Return a thread's units of what all rows are kept in."""
        if buffer.name in self._fetched:
            return self._apart[number][buffer.name]
        return self._whole[buffer.name][:, self._units(number, buffer.shape[1])]

    def _weights(self, number: int, buffer: Buffer) -> Array:
        """Return the rows of weights, or of their gradient, that are a thread's."""
        return self.shares[0].view(buffer)[self._units(number, buffer.shape[0])]

    def _add_up(self, calls: Sequence[Call], number: int) -> list[Row]:
        """Return the sum over threads of a thread's rows, with bias and ReLU where they are due."""
        call, rows = calls[number], self._rows[number]
        c = _operand(call, "c")
        mine, *others = (
            arrays[_sum(c.name)][rows]
            for arrays in (self._apart[number], *self._apart[:number], *self._apart[number + 1 :])
        )
        flat = mine.reshape(-1)
        added = [make_row("add", [o.reshape(-1), flat], (c.dtype,) * 2, {}) for o in others]
        kernel = _KERNELS[call.kernel]
        if not kernel:
            return added
        share, bias = self.shares[number], _operand(call, "bias")
        views = [mine, share.view(bias), share.view(c)]
        return [*added, make_row(kernel, views, (c.dtype,) * 3, {})]

    def _own(self, number: int) -> list[slice]:
        """Return the weights of a thread's units, and its parts of what lies between weights."""
        return [*self._owned_weights(number), *self._owned_rest(number)]

    def _owned_weights(self, number: int) -> list[slice]:
        owned = []
        for buffer in self._gradients_of_weights():
            units, outputs = self._units(number, buffer.shape[0]), buffer.shape[1]
            start, stop = (buffer.offset + unit * outputs for unit in (units.start, units.stop))
            owned.append(slice(start, stop))
        return owned

    def _owned_rest(self, number: int) -> list[slice]:
        weights = self._gradients_of_weights()
        starts = [0, *(buffer.offset + buffer.size for buffer in weights)]
        stops = [*(buffer.offset for buffer in weights), self.shares[0].vectors[GRADS].size]
        between = [slice(*ends) for ends in zip(starts, stops, strict=True) if ends[0] < ends[1]]
        return [portion(part, number, len(self.shares)) for part in between]

    def _gradients_of_weights(self) -> list[Buffer]:
        found = [_operand(call, "c") for call in self._products if _role(call) == _WEIGHTS]
        return sorted(found, key=lambda buffer: buffer.offset)

    def _sums_of_gradients(self, number: int) -> list[Row]:
        """Return the sums over shares of biases' gradients; those of weights are whole."""
        return [row for mine in self._owned_rest(number) for row in self._sums(mine)]


def _stages(parts: Iterable[_Part]) -> list[list[_Part]]:
    """Cut where a part reads what others write in the same stage, or writes what they read."""
    stages: list[list[_Part]] = [[]]
    read: set[str] = set()
    written: set[str] = set()
    for part in parts:
        if part.reads & written or part.writes & read:
            stages.append([])
            read, written = set(), set()
        stages[-1].append(part)
        read |= part.reads
        written |= part.writes
    return stages


def products(plan: Plan) -> list[Call]:
    """Return the products of forward and backward."""
    calls = plan.forward + plan.backward
    return [c for c in calls if c.contract.family == "matrix" and "c" in c.contract.index]


def _role(call: Call) -> str:
    """Return which product of a dense layer a call is; the empty text if it is none."""
    if call.kernel not in _KERNELS:
        return ""
    a, b, c = (_operand(call, name) for name in "abc")
    flags = {name for name, value in call.scalars if value}
    if flags == {"transpose_a"} and (a.region, b.region, c.region) == _REGIONS_OF_WEIGHTS:
        return _WEIGHTS if call.kernel == "matmul" else ""
    if (a.region, b.region, c.region) != _REGIONS:
        return ""
    if flags == {"transpose_b"}:
        return _INPUTS if call.kernel == "matmul" else ""
    return _FORWARD if not flags and call.named().get("mask") is None else ""


def _operand(call: Call, name: str) -> Buffer:
    buffer = call.named()[name]
    assert buffer is not None  # not optional in any contract
    return buffer


def _sum(name: str) -> str:
    """Return the name of a thread's part of a sum."""
    return f"part of {name}"


def _only_multiplied(plan: Plan) -> set[str]:
    """Return the names of minibatches of the data that nothing but dense layers reads.

    Of these every thread fetches the columns that it multiplies, and no others.
    """
    calls = plan.forward + plan.backward
    fetched = {_operand(call, "x") for call in calls if call.kernel == "gather"}
    for call in calls:
        left = [_operand(call, "a")] if _role(call) in (_FORWARD, _WEIGHTS) else []
        fetched -= {b for b in call.reads() if b not in left}
    used = {_operand(call, "a") for call in products(plan)}
    return {buffer.name for buffer in fetched & used}


def _product(
    a: Array, b: Array, c: Array, *, transpose_a: bool = False, transpose_b: bool = False
) -> Row:
    """Return c = op(a) op(b) by tiles as a row; the rows of a and c may be parts of longer ones."""
    (rows, columns), inner = c.shape, a.shape[0] if transpose_a else a.shape[1]
    lda, ldc = (array.strides[0] // array.itemsize for array in (a, c))
    words = [
        a.ctypes.data, b.ctypes.data, c.ctypes.data, rows, inner, columns,
        transpose_a, transpose_b, FROM_ZERO, b.ctypes.data, False, lda, ldc,
    ]  # fmt: skip
    return Row(gemm.address(a.dtype.name), np.array([*words, 0, 0, 0], np.int64))
