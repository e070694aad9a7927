"""Losses: value and delta in one pass over the rows.

A scalar function gives value and slope of each elementwise loss; one loop serves them all. Losses
of elements have the working dtype and are summed in float64. What comes of an element that the mask
leaves out, or that has no weight, is thrown away, so that NaN in it does no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import overload

from gpubp.kernels.numba import rows
from gpubp.kernels.numba.compiled import FLAGS, jit_as
from gpubp.kernels.numba.elementary import EXACT, exp, exp_negative, log1p_fraction
from gpubp.kernels.numba.intrinsics import data, like, select
from gpubp.kernels.numba.rows import FEW, LINES, ROWS
from gpubp.kernels.numba.tile import scratch

Function = Callable[..., Any]
_scalar = njit(forceinline=True, **FLAGS)
_element = njit(**EXACT)  # of ½ r² in another order, r² may overflow
_STRETCH = 2048  # elements whose losses are written down before they are summed


def _kept(mask: Any, start: int, stop: int) -> Any:
    """Return a stretch of a mask of elements, None if there is none."""
    return None if mask is None else mask.reshape(mask.size)[start:stop]


def _spread(weights: Any, columns: int, start: int, room: Any) -> Any:
    """Write to ``room`` the weight of each element from ``start`` on; None if there are none."""
    return None if weights is None else room


# Overloaded because the type of such a conditional expression would be that of both its sides.
@overload(_kept, strict=False)
def _kept_of(mask: Any, start: int, stop: int) -> Any:
    if isinstance(mask, types.NoneType):
        return lambda mask, start, stop: None
    return lambda mask, start, stop: mask.reshape(mask.size)[start:stop]


@overload(_spread, strict=False)
def _spread_of(weights: Any, columns: int, start: int, room: Any) -> Any:
    if isinstance(weights, types.NoneType):
        return lambda weights, columns, start, room: None

    def spread(weights: Any, columns: int, start: int, room: Any) -> Any:
        if columns == 1:
            room[:] = weights[start : start + room.size]
            return room
        i, row, left = 0, start // columns, columns - start % columns
        while i < room.size:
            end = min(i + left, room.size)
            room[i:end] = weights[row]
            i, row, left = end, row + 1, columns
        return room

    return spread


def _elementwise(value_and_slope: Function) -> Function:
    """Return the kernel of a loss that is a sum over elements."""
    name = value_and_slope.__name__

    # Signed zeros, else x + (y if kept else 0) becomes x + y if kept else x, and no vectors of it.
    @jit_as(f"{name}_stretch", fastmath={"contract", "reassoc"})
    def stretch(
        z: Any, t: Any, weights: Any, mask: Any, dz: Any, values: Any, scale: float, scalars: Any
    ) -> Any:
        """Write gradient and ``values`` of some elements; return their losses' sum."""
        one, zero = t.dtype.type(1), t.dtype.type(0)
        factor = t.dtype.type(scale)
        for i in range(z.size):
            weight = one if weights is None else weights[i]
            value, slope = value_and_slope(z[i], t[i], *scalars)
            kept = (mask is None or mask[i]) & (weights is None or weights[i] != zero)
            values[i] = select(kept, value, zero)
            dz[i] = select(kept, factor * weight * slope, zero)
        # A loop of its own: one that had float64 in it would take half as many at a time.
        total = 0.0
        for i in range(values.size):
            weight = one if weights is None else weights[i]
            total += like(weight, total) * like(values[i], total)
        return scale * total

    @jit_as(f"{name}_loss")
    def kernel(
        z: Any, t: Any, weights: Any, mask: Any, loss: Any, dz: Any, *scalars: float
    ) -> None:
        # Rows do not matter here, and a row of few outputs would not fill a vector.
        every_z, every_t, every_dz = z.reshape(z.size), t.reshape(t.size), dz.reshape(dz.size)
        scale, total = scalars[-1], 0.0
        room = carray(scratch(data(t), _STRETCH), (_STRETCH,))
        values = carray(scratch(data(t), _STRETCH), (_STRETCH,))
        for i in range(0, z.size, _STRETCH):
            end = min(i + _STRETCH, z.size)
            of_rows = _spread(weights, z.shape[1], i, room[: end - i])
            total += stretch(
                every_z[i:end], every_t[i:end], of_rows, _kept(mask, i, end), every_dz[i:end],
                values[: end - i], scale, scalars[:-1],
            )  # fmt: skip
        loss[0] += total

    return kernel


@_element
def _sign(r: Any) -> Any:
    one, zero = like(1.0, r), like(0.0, r)
    sign = (one if r > zero else zero) - (one if r < zero else zero)
    return sign if r == r else r  # noqa: PLR0124 (NaN)


@_element
def _squared(z: Any, t: Any) -> Any:
    r = z - t
    return like(0.5, r) * r * r, r


@_element
def _absolute(z: Any, t: Any) -> Any:
    return abs(z - t), _sign(z - t)


@_element
def _huber(z: Any, t: Any, threshold: float) -> Any:
    r, d = z - t, like(threshold, z)
    size = abs(r)
    inside = size <= d
    value = like(0.5, r) * r * r if inside else d * (size - like(0.5, r) * d)
    return value, r if inside else d * _sign(r)


@_element
def _quantile(z: Any, t: Any, q: float) -> Any:
    r = z - t
    slope = like(-q, z) if r < like(0.0, r) else like(1.0 - q, z)
    return slope * r, slope * abs(_sign(r))


@_element
def _poisson(z: Any, t: Any) -> Any:
    rate = exp(z)
    return rate - t * z, rate - t


@_element
def _sigmoid_cross_entropy(z: Any, t: Any) -> Any:
    """Value (1 - t) z or -t z and log1p(u), slope 1 - t or -t and u / (1 + u): nothing cancels."""
    u, positive = exp_negative(-abs(z)), z > like(0.0, z)
    outside = like(1.0, t) - t if positive else -t
    tail = u / (like(1.0, u) + u)
    return outside * z + log1p_fraction(u), outside + (-tail if positive else tail)


squared_error = _elementwise(_squared)
absolute_error = _elementwise(_absolute)
huber = _elementwise(_huber)
quantile = _elementwise(_quantile)
poisson = _elementwise(_poisson)
sigmoid_cross_entropy = _elementwise(_sigmoid_cross_entropy)


@_scalar
def _counts(mask: Any, weights: Any, row: int) -> Any:
    """Return whether a row counts: it is not left out and has a weight."""
    return (mask is None or mask[row]) and (weights is None or weights[row] != 0)


@_scalar
def _weight(weights: Any, row: int, scale: float) -> float:
    """Return what a row's loss is multiplied with."""
    return scale if weights is None else scale * weights[row]


@_scalar
def _softmax(
    x: Any, lines: Any, totals: Any, rests: Any, offsets: Any, mass: Any, smoothing: float
) -> Any:
    """X = mass · (softmax - smoothing / classes), from what was shifted; mass · log(total).

    The sum of the latter over rows is returned. A row without mass, as one that the mask leaves out
    or one beyond the last, adds 0 to it whatever stands there.
    """
    rows.exponentials(x, lines, totals, rests)
    for r in range(ROWS):
        totals[r] = select(mass[r] == 0, like(1.0, totals[r]), totals[r])
        rests[r] = select(mass[r] == 0, like(0.0, rests[r]), rests[r])
        offsets[r] = mass[r] * like(smoothing / x.shape[1], mass[r])
    logs = rows.logarithms(totals, rests, mass)
    rows.scale(x, lines, totals, offsets)
    return logs


@njit(**FLAGS)
def softmax_cross_entropy(
    z: Any, labels: Any, weights: Any, mask: Any, loss: Any, dz: Any, smoothing: float, scale: float
) -> None:
    """Cross-entropy of softmax(z) with smoothed one-hot rows; dz may be z."""
    classes = z.shape[1]
    lines = carray(scratch(rows.wide(dz), LINES), (FEW, ROWS))
    totals = carray(scratch(rows.wide(dz), ROWS), (ROWS,))
    rests = carray(scratch(rows.wide(dz), ROWS), (ROWS,))
    sums = carray(scratch(rows.wide(dz), ROWS), (ROWS,))
    mass = carray(scratch(rows.wide(dz), ROWS), (ROWS,))
    for start in range(0, z.shape[0], ROWS):
        end = min(start + ROWS, z.shape[0])
        x, sum_loss = dz[start:end], 0.0
        rows.shift(z[start:end], x, lines, totals, sums)
        mass[:] = 0
        for r in range(end - start):
            if _counts(mask, weights, start + r):
                label, weight = labels[start + r], _weight(weights, start + r, scale)
                if not 0 <= label < classes:  # who owns the array may have changed it meanwhile
                    label, weight = 0, np.nan
                mass[r] = weight
                score = lines[label, r] if classes <= FEW else x[r, label]
                sum_loss -= weight * (1 - smoothing) * score
                if smoothing != 0:
                    sum_loss -= weight * smoothing / classes * sums[r]
        loss[0] += sum_loss + _softmax(x, lines, totals, rests, sums, mass, smoothing)
        for r in range(end - start):
            if _counts(mask, weights, start + r):
                label = labels[start + r]
                if 0 <= label < classes:
                    x[r, label] -= mass[r] * like(1 - smoothing, mass[r])
            else:
                x[r, :] = 0


@njit(**FLAGS)
def softmax_cross_entropy_dense(
    z: Any, t: Any, weights: Any, mask: Any, loss: Any, dz: Any, smoothing: float, scale: float
) -> None:
    """Cross-entropy of softmax(z) with smoothed rows t of any total; dz may be z."""
    classes = z.shape[1]
    lines = carray(scratch(rows.wide(dz), LINES), (FEW, ROWS))
    totals = carray(scratch(rows.wide(dz), ROWS), (ROWS,))
    rests = carray(scratch(rows.wide(dz), ROWS), (ROWS,))
    sums = carray(scratch(rows.wide(dz), ROWS), (ROWS,))
    mass = carray(scratch(rows.wide(dz), ROWS), (ROWS,))
    for start in range(0, z.shape[0], ROWS):
        end = min(start + ROWS, z.shape[0])
        x, sum_loss = dz[start:end], 0.0
        rows.shift(z[start:end], x, lines, totals, sums)
        mass[:] = 0
        for r in range(end - start):
            if _counts(mask, weights, start + r):
                total, agreement = like(0.0, mass[r]), like(0.0, mass[r])
                for k in range(classes):
                    p, d = t[start + r, k], lines[k, r] if classes <= FEW else x[r, k]
                    total += p
                    # An impossible class, of logit -inf, would give 0 · inf.
                    agreement += select(p == 0, like(0.0, p), p * d)
                weight = _weight(weights, start + r, scale)
                mass[r] = weight * total
                sum_loss -= weight * (1 - smoothing) * agreement
                if smoothing != 0:
                    sum_loss -= weight * smoothing * total / classes * sums[r]
        loss[0] += sum_loss + _softmax(x, lines, totals, rests, sums, mass, smoothing)
        for r in range(end - start):
            if _counts(mask, weights, start + r):
                kept = like(_weight(weights, start + r, scale) * (1 - smoothing), mass[r])
                for k in range(classes):
                    x[r, k] -= kept * t[start + r, k]
            else:
                x[r, :] = 0
