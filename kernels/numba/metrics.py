"""Sums and counts that stay beside the data until somebody asks for them."""

from __future__ import annotations

from typing import Any

from numba import njit

from gpubp.kernels.numba.compiled import FLAGS
from gpubp.kernels.numba.intrinsics import like


@njit(**FLAGS)
def sum_of_squares(x: Any, total: Any) -> None:
    """total = sum_i x_i², in float64."""
    s = 0.0
    for i in range(x.size):
        s += like(x[i], s) * like(x[i], s)
    total[0] = s


@njit(**FLAGS)
def sum_of_squared_errors(z: Any, t: Any, total: Any) -> None:
    """total += sum (z - t)², in float64."""
    s = 0.0
    for i in range(z.shape[0]):
        for k in range(z.shape[1]):
            r = like(z[i, k], s) - like(t[i, k], s)
            s += r * r
    total[0] += s


@njit(**FLAGS)
def count_correct(z: Any, labels: Any, count: Any) -> None:
    """Count the rows whose largest z is at the label; the first of equal maxima counts."""
    n = 0
    for i in range(z.shape[0]):
        n += z[i].argmax() == labels[i]
    count[0] += n


@njit(**FLAGS)
def count_correct_dense(z: Any, t: Any, count: Any) -> None:
    """Count the rows where z and t have their largest value in the same place."""
    n = 0
    for i in range(z.shape[0]):
        n += z[i].argmax() == t[i].argmax()
    count[0] += n


@njit(**FLAGS)
def count_correct_binary(z: Any, t: Any, count: Any) -> None:
    """Count the rows where every z is on the side of 0 that t is of ½."""
    n = 0
    for i in range(z.shape[0]):
        right = True
        for k in range(z.shape[1]):
            right &= (z[i, k] > 0) == (t[i, k] > 0.5)
        n += right
    count[0] += n
