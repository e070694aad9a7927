"""Rows out of a data set and back, and the counters that say which."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device


def _rows(row: Any, first: int, count: int) -> Any:
    """Return row + first + i for i below ``count``."""
    xp = array_namespace(row)
    return row + first + xp.arange(count, dtype=xp.int64, device=device(row))


def take_rows(source: Any, row: Any, x: Any, *, first: int = 0) -> None:
    """x[i] = source[row + first + i], converted to the dtype of x."""
    xp = array_namespace(source, row, x)
    x[...] = xp.astype(xp.take(source, _rows(row, first, x.shape[0]), axis=0), x.dtype)


def take_labels(source: Any, row: Any, x: Any, *, first: int = 0) -> None:
    """x[i] = source[row + first + i]."""
    take_rows(source, row, x, first=first)


def gather(source: Any, permutation: Any, row: Any, x: Any, *, first: int = 0) -> None:
    """x[i] = source[permutation[row + first + i]], converted to the dtype of x."""
    xp = array_namespace(source, permutation, row, x)
    chosen = xp.take(permutation, _rows(row, first, x.shape[0]), axis=0)
    x[...] = xp.astype(xp.take(source, chosen, axis=0), x.dtype)


def gather_labels(source: Any, permutation: Any, row: Any, x: Any, *, first: int = 0) -> None:
    """x[i] = source[permutation[row + first + i]]."""
    gather(source, permutation, row, x, first=first)


def put_rows(x: Any, row: Any, out: Any, *, first: int = 0) -> None:
    """out[row + first + i] = x[i].

    The row is read back to the host: the standard has no assignment to rows that an array names.
    """
    start = int(row[0]) + first
    out[start : start + x.shape[0], ...] = x


def advance(row: Any, step: Any, *, rows: int, steps: int = 1) -> None:
    """row += rows; step += steps."""
    row[...] = row + rows
    step[...] = step + steps


def rate(rates: Any, step: Any, start: Any, lr: Any) -> None:
    """lr = rates[step - start]."""
    lr[...] = array_namespace(rates, step).take(rates, step - start, axis=0)
