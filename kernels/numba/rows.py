"""Softmax of a block of rows, for losses and activations.

A row of a few classes leaves a vector mostly empty, and its largest element and its sum are chains
from lane to lane. Rows of few columns are therefore laid in lines, one for each column with a lane
for each row, and written back from there. Longer rows are taken where they stand.
"""

from __future__ import annotations

from typing import Any

from numba import njit, types
from numba.extending import overload

from gpubp.kernels.numba.compiled import FLAGS
from gpubp.kernels.numba.elementary import exp_negative, log_of_sum, minus
from gpubp.kernels.numba.intrinsics import like, pointer

ROWS = 64  # of a block: four vectors, of which the processor works at several at a time
LANES = 16  # of which lines are whole multiples: a loop's rest would not be vectors
FEW = 10  # columns, up to which lines are faster: measured, on AVX-512
LINES = FEW * ROWS

_inlined = njit(forceinline=True, **FLAGS)  # else no function knows that its arrays are apart


def wide(x: Any) -> Any:
    """Return a pointer, to nothing, of the dtype that an array is computed in."""


@overload(wide, strict=False)
def _wide(x: Any) -> Any:
    name = "float64" if x.dtype == types.float64 else "float32"
    return lambda x: pointer(0, name)


@_inlined
def length(x: Any) -> int:
    """Return how many lanes of a line a block of rows takes."""
    return -(-x.shape[0] // LANES) * LANES


@_inlined
def lay(z: Any, lines: Any) -> None:
    """Lay rows in lines; the lanes of rows that are not there are 0."""
    for k in range(z.shape[1]):
        for r in range(z.shape[0]):
            lines[k, r] = z[r, k]
        for r in range(z.shape[0], length(z)):
            lines[k, r] = 0


@_inlined
def put(lines: Any, rows: Any) -> None:
    """Write lines to the rows that they are of."""
    for r in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            rows[r, k] = lines[k, r]


@_inlined
def shift(z: Any, x: Any, lines: Any, tops: Any, sums: Any) -> None:
    """Take from each row its largest element, in lines if columns are few, else from z to x.

    ``sums`` are those of what is left; ``tops`` is room.
    """
    if z.shape[1] <= FEW:
        lay(z, lines)
        _shift_lines(lines, z.shape[1], length(z), tops, sums)
        return
    for r in range(z.shape[0]):
        top = _largest(z[r], tops)
        total = like(0.0, top)
        for k in range(z.shape[1]):
            d = minus(z[r, k], top)
            x[r, k] = d
            total += d
        sums[r] = total


@_inlined
def exponentials(x: Any, lines: Any, totals: Any, rests: Any) -> None:
    """Take exp of what was shifted; ``totals`` are each row's sums, ``rests`` those below 1."""
    if x.shape[1] <= FEW:
        _exponentials_of_lines(lines, x.shape[1], length(x), totals, rests)
        return
    flat = x.reshape(x.size)
    for i in range(flat.size):
        flat[i] = exp_negative(flat[i])
    for r in range(x.shape[0]):
        total, rest = like(0.0, totals[0]), like(0.0, totals[0])
        for k in range(x.shape[1]):
            total += x[r, k]
            rest += below_one(x[r, k])
        totals[r], rests[r] = total, rest


@_inlined
def below_one(e: Any) -> Any:
    """Return an exponential if it is below 1, else 0: all but the largest of a row's."""
    return e if e < like(1.0, e) else like(0.0, e)


@_inlined
def logarithms(totals: Any, rests: Any, weights: Any) -> Any:
    """Totals = weights / totals; return the sum of weights · log(totals), in float64.

    A total below 2 is 1 and its rest, which has the digits that the total has not.
    """
    logs = 0.0
    for r in range(ROWS):
        logs += like(weights[r], logs) * like(log_of_sum(totals[r], rests[r]), logs)
        totals[r] = weights[r] / totals[r]
    return logs


@_inlined
def scale(x: Any, lines: Any, factors: Any, offsets: Any) -> None:
    """X = exponentials · factors - offsets, of which each row has one."""
    if x.shape[1] > FEW:
        for r in range(x.shape[0]):
            factor, offset = factors[r], offsets[r]
            for k in range(x.shape[1]):
                x[r, k] = x[r, k] * factor - offset
        return
    for k in range(x.shape[1]):
        for r in range(length(x)):
            lines[k, r] = lines[k, r] * factors[r] - offsets[r]
    put(lines, x)


@_inlined
def _shift_lines(lines: Any, columns: int, lanes: int, tops: Any, sums: Any) -> None:
    for r in range(lanes):
        tops[r] = lines[0, r]
        sums[r] = 0
    for k in range(1, columns):
        for r in range(lanes):
            tops[r] = lines[k, r] if lines[k, r] > tops[r] else tops[r]
    for k in range(columns):
        for r in range(lanes):
            x = minus(lines[k, r], tops[r])
            lines[k, r] = x
            sums[r] += x


@_inlined
def _exponentials_of_lines(lines: Any, columns: int, lanes: int, totals: Any, rests: Any) -> None:
    for r in range(lanes):
        totals[r] = 0
        rests[r] = 0
    for k in range(columns):
        for r in range(lanes):
            e = exp_negative(lines[k, r])
            lines[k, r] = e
            totals[r] += e
            rests[r] += below_one(e)


@_inlined
def _largest(row: Any, tops: Any) -> Any:
    """Return the largest element of a row, taken lane by lane if it is long; ``tops`` is room."""
    top, start = row[0], 0
    if row.size > LANES:
        for r in range(LANES):
            tops[r] = row[r]
        for i in range(1, row.size // LANES):
            for r in range(LANES):
                x = row[i * LANES + r]
                tops[r] = x if x > tops[r] else tops[r]
        start = row.size // LANES * LANES
        for r in range(LANES):
            top = tops[r] if tops[r] > top else top
    for k in range(start, row.size):
        top = row[k] if row[k] > top else top
    return top
