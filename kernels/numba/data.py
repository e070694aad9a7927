"""Minibatches out of the data set and results back into an array; the counters that choose them.

Rows are seen as two-dimensional, whatever their shape. A value is converted to the working dtype as
it is read, so that a data set is never copied as a whole.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from gpubp.kernels.numba.compiled import FLAGS


@njit(**FLAGS)
def gather(source: Any, permutation: Any, row: Any, x: Any, first: int) -> None:
    """x[i] = source[permutation[row + first + i]]."""
    start = row[0] + first
    for i in range(x.shape[0]):
        chosen = permutation[start + i]
        for j in range(x.shape[1]):
            x[i, j] = source[chosen, j]


@njit(**FLAGS)
def gather_labels(source: Any, permutation: Any, row: Any, x: Any, first: int) -> None:
    """x[i] = source[permutation[row + first + i]]."""
    start = row[0] + first
    for i in range(x.size):
        x[i] = source[permutation[start + i]]


@njit(**FLAGS)
def take_rows(source: Any, row: Any, x: Any, first: int) -> None:
    """x[i] = source[row + first + i]."""
    start = row[0] + first
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] = source[start + i, j]


@njit(**FLAGS)
def take_labels(source: Any, row: Any, x: Any, first: int) -> None:
    """x[i] = source[row + first + i]."""
    start = row[0] + first
    for i in range(x.size):
        x[i] = source[start + i]


@njit(**FLAGS)
def put_rows(x: Any, row: Any, out: Any, first: int) -> None:
    """out[row + first + i] = x[i]."""
    start = row[0] + first
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[start + i, j] = x[i, j]


@njit(**FLAGS)
def advance(row: Any, step: Any, rows: int, steps: int) -> None:
    """row += rows; step += steps."""
    row[0] += rows
    step[0] += steps


@njit(**FLAGS)
def rate(rates: Any, step: Any, start: Any, lr: Any) -> None:
    """lr = rates[step - start]."""
    lr[0] = rates[step[0] - start[0]]
