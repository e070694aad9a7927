"""What happens to the flat gradient vector between backward and the optimizer."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from gpubp.kernels.numba.compiled import FLAGS

_SMALL = 2.0**-64  # below it, a factor of the gradient is applied as its root, twice


@njit(**FLAGS)
def l1_penalty(params: Any, grads: Any, l1: float) -> None:
    """grads += l1 sign(params)."""
    step, zero = grads.dtype.type(l1), grads.dtype.type(0)
    for i in range(params.size):
        p = params[i]
        push = (step if p > zero else zero) - (step if p < zero else zero)
        grads[i] += push if p == p else p  # noqa: PLR0124 (NaN)


@njit(**FLAGS)
def l2_penalty(params: Any, grads: Any, l2: float) -> None:
    """grads += l2 params."""
    factor = grads.dtype.type(l2)
    for i in range(params.size):
        grads[i] += factor * params[i]


@njit(**FLAGS)
def clip_value(grads: Any, limit: float) -> None:
    """grads = min(max(grads, -limit), limit); NaN stays."""
    high = grads.dtype.type(limit)
    for i in range(grads.size):
        g = grads[i]
        g = high if g > high else g
        grads[i] = -high if g < -high else g


@njit(**FLAGS)
def clip_norm(squares: Any, grads: Any, limit: float) -> None:
    """grads *= min(1, limit / sqrt(sum squares)), NaN where the sum is not finite."""
    norm = math.sqrt(squares.sum())
    if not norm <= limit:  # NaN too: it goes to every element
        factor = limit / norm if norm < math.inf else math.nan
        if factor < _SMALL:  # in float32, and flushed to zero, it could be 0
            factor = math.sqrt(factor)
            _multiply(grads, factor)
        _multiply(grads, factor)


@njit(**FLAGS)
def _multiply(grads: Any, factor: float) -> None:
    """grads *= factor."""
    rounded = grads.dtype.type(factor)
    for i in range(grads.size):
        grads[i] *= rounded


@njit(**FLAGS)
def add(x: Any, y: Any) -> None:
    """y += x."""
    for i in range(y.size):
        y[i] += x[i]
