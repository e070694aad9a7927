"""Means and standard deviations of numbers of any size, and numbers in units of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDINGS = 64  # how often rounding may have moved the largest value by one place
_FLOAT64 = float(np.finfo(np.float64).eps)


def spread(values: NDArray[np.float64], precision: float = _FLOAT64) -> tuple[float, float]:
    """Return mean and standard deviation; the latter is 0 of values that vary by rounding alone.

    They are computed in two passes over numbers of size 1 at most, so that nothing overflows or
    vanishes: mean = sum(x) / N, deviation = sqrt(sum((x - mean)^2) / N).

    Args:
        values: (N,) finite, one at least.
        precision: the relative distance of neighbouring numbers.
    """
    lowest, highest = float(values.min()), float(values.max())
    size = max(abs(lowest), abs(highest))
    if highest / 2 - lowest / 2 <= _ROUNDINGS * precision * (size / 2):
        return float(values[0]), 0.0
    exponent = int(np.frexp(size)[1])
    small = np.ldexp(values, -exponent)
    mean = small.mean()
    small -= mean
    return float(np.ldexp(mean, exponent)), float(np.ldexp(np.sqrt(np.mean(small**2)), exponent))


def standardised(values: NDArray[np.float64], mean: float, scale: float) -> NDArray[np.float64]:
    """Return (values - mean) / scale, also where the difference is beyond float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = (values - mean) / scale
        far = ~np.isfinite(result)
        if far.any():
            result[far] = values[far] / scale - mean / scale
    return result
