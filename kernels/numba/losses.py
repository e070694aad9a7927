"""Losses: value and delta in one pass over the rows.

A scalar function gives value and slope of each elementwise loss; one loop serves them all. The
loss of a row is summed in the working dtype, the rows in float64. A masked element is never
computed with, so that NaN in it does no harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba import njit

from gpubp.kernels.numba.compiled import FLAGS, jit_as
from gpubp.kernels.numba.elementary import exp, minus, softplus_and_sigmoid
from gpubp.kernels.numba.intrinsics import like

Function = Callable[..., Any]
_scalar = njit(forceinline=True, **FLAGS)
_LARGE = 1e200  # times one more sum of exponentials is still finite


def _elementwise(value_and_slope: Function) -> Function:
    """Return the kernel of a loss that is a sum over elements."""

    @jit_as(f"{value_and_slope.__name__}_loss")
    def kernel(
        z: Any, t: Any, weights: Any, mask: Any, loss: Any, dz: Any, *scalars: float
    ) -> None:
        scale = scalars[-1]
        zero = dz.dtype.type(0)
        total = 0.0
        for i in range(z.shape[0]):
            weight = scale if weights is None else scale * weights[i]
            w = dz.dtype.type(weight)
            row = zero
            for k in range(z.shape[1]):
                if mask is None or mask[i, k]:
                    value, slope = value_and_slope(z[i, k], t[i, k], *scalars[:-1])
                    row += value
                    dz[i, k] = w * slope
                else:
                    dz[i, k] = zero
            total += weight * row
        loss[0] += total

    return kernel


@_scalar
def _sign(r: Any) -> Any:
    one, zero = like(1.0, r), like(0.0, r)
    sign = (one if r > zero else zero) - (one if r < zero else zero)
    return sign if r == r else r  # noqa: PLR0124 (NaN)


@_scalar
def _squared(z: Any, t: Any) -> Any:
    r = z - t
    return like(0.5, r) * r * r, r


@_scalar
def _absolute(z: Any, t: Any) -> Any:
    return abs(z - t), _sign(z - t)


@_scalar
def _huber(z: Any, t: Any, threshold: float) -> Any:
    r, d = z - t, like(threshold, z)
    size = abs(r)
    inside = size <= d
    value = like(0.5, r) * r * r if inside else d * (size - like(0.5, r) * d)
    return value, r if inside else d * _sign(r)


@_scalar
def _quantile(z: Any, t: Any, q: float) -> Any:
    r, q_ = z - t, like(q, z)
    under, over = -q_, like(1.0, z) - q_
    slope = under if r < like(0.0, r) else over
    return slope * r, slope * abs(_sign(r))


@_scalar
def _poisson(z: Any, t: Any) -> Any:
    rate = exp(z)
    return rate - t * z, rate - t


@_scalar
def _sigmoid_cross_entropy(z: Any, t: Any) -> Any:
    value, slope = softplus_and_sigmoid(z)
    return value - t * z, slope - t


squared_error = _elementwise(_squared)
absolute_error = _elementwise(_absolute)
huber = _elementwise(_huber)
quantile = _elementwise(_quantile)
poisson = _elementwise(_poisson)
sigmoid_cross_entropy = _elementwise(_sigmoid_cross_entropy)


@_scalar
def _shift(z: Any, shifted: Any) -> Any:
    """Write z less its largest element for one row; return the sum of that."""
    top = z[0]
    for k in range(1, z.size):
        top = z[k] if z[k] > top else top
    plain = like(0.0, top)
    for k in range(z.size):
        d = minus(z[k], top)
        shifted[k] = d
        plain += d
    return plain


@_scalar
def _exponentials(x: Any) -> None:
    """X = exp(x), all rows as one: a few classes alone would not fill a vector."""
    flat = x.reshape(x.size)
    for i in range(flat.size):
        flat[i] = exp(flat[i])


@njit(**FLAGS)
def softmax_cross_entropy(
    z: Any, labels: Any, weights: Any, mask: Any, loss: Any, dz: Any, smoothing: float, scale: float
) -> None:
    """Cross-entropy of softmax(z) with smoothed one-hot rows; dz may be z.

    Rows of one weight need no logarithm each: theirs is that of the product of their sums.
    """
    rows, classes = z.shape
    sum_loss, product = 0.0, 1.0
    for i in range(rows):
        if mask is not None and not mask[i]:
            dz[i, :] = 0
            continue
        weight = scale if weights is None else scale * weights[i]
        plain = _shift(z[i], dz[i])
        sum_loss -= weight * (1 - smoothing) * dz[i, labels[i]]
        if smoothing != 0:
            sum_loss -= weight * smoothing / classes * plain
    _exponentials(dz)
    for i in range(rows):
        if mask is not None and not mask[i]:
            dz[i, :] = 0
            continue
        weight = scale if weights is None else scale * weights[i]
        total = like(0.0, dz[i, 0])
        for k in range(classes):
            total += dz[i, k]
        product *= total
        if weights is not None or product > _LARGE:
            sum_loss += weight * math.log(product)
            product = 1.0
        share = like(weight, total) / total
        rest = like(weight * smoothing / classes, total)
        for k in range(classes):
            dz[i, k] = dz[i, k] * share - rest
        dz[i, labels[i]] -= like(weight * (1 - smoothing), total)
    loss[0] += sum_loss + scale * math.log(product)


@njit(**FLAGS)
def softmax_cross_entropy_dense(
    z: Any, t: Any, weights: Any, mask: Any, loss: Any, dz: Any, smoothing: float, scale: float
) -> None:
    """Cross-entropy of softmax(z) with smoothed rows t of any total; dz may be z."""
    rows, classes = z.shape
    sum_loss = 0.0
    for i in range(rows):
        if mask is not None and not mask[i]:
            dz[i, :] = 0
            continue
        weight = scale if weights is None else scale * weights[i]
        plain = _shift(z[i], dz[i])
        mass, agreement = 0.0, 0.0
        for k in range(classes):
            mass += t[i, k]
            if t[i, k] != 0:  # else an impossible class, of logit -inf, would give 0 · inf
                agreement += t[i, k] * dz[i, k]
        sum_loss -= weight * (1 - smoothing) * agreement
        if smoothing != 0:
            sum_loss -= weight * smoothing * mass / classes * plain
    _exponentials(dz)
    for i in range(rows):
        if mask is not None and not mask[i]:
            dz[i, :] = 0
            continue
        weight = scale if weights is None else scale * weights[i]
        total, mass = like(0.0, dz[i, 0]), 0.0
        for k in range(classes):
            total += dz[i, k]
            mass += t[i, k]
        sum_loss += weight * mass * math.log(total)
        share = like(weight * mass, total) / total
        rest = like(weight * smoothing * mass / classes, total)
        kept = like(weight * (1 - smoothing), total)
        for k in range(classes):
            dz[i, k] = dz[i, k] * share - rest - kept * t[i, k]
    loss[0] += sum_loss
