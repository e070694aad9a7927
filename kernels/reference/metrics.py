"""Metrics that are summed where the data is and read once a report."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace


def sum_of_squares(x: Any, total: Any) -> None:
    """total = sum_i x_i², in float64."""
    xp = array_namespace(x, total)
    wide = xp.astype(x, xp.float64)
    total[...] = xp.sum(wide * wide)


def sum_of_squared_errors(z: Any, t: Any, total: Any) -> None:
    """total += sum_i,k (z_ik - t_ik)², in float64."""
    xp = array_namespace(z, t, total)
    error = xp.astype(z, xp.float64) - xp.astype(t, xp.float64)
    total[...] = total + xp.sum(error * error)


def _count(correct: Any, count: Any) -> None:
    xp = array_namespace(correct, count)
    count[...] = count + xp.sum(xp.astype(correct, xp.int64))


def count_correct(z: Any, labels: Any, count: Any) -> None:
    """count += number of rows i with argmax_k z_ik = labels_i."""
    _count(array_namespace(z, labels).argmax(z, axis=1) == labels, count)


def count_correct_dense(z: Any, t: Any, count: Any) -> None:
    """count += number of rows i with argmax_k z_ik = argmax_k t_ik."""
    xp = array_namespace(z, t)
    _count(xp.argmax(z, axis=1) == xp.argmax(t, axis=1), count)


def count_correct_binary(z: Any, t: Any, count: Any) -> None:
    """count += number of rows i with (z_ik > 0) = (t_ik > ½) for every k."""
    _count(array_namespace(z, t).all((z > 0.0) == (t > 0.5), axis=1), count)
