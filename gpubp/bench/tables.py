"""Rows that can be learned: the digits, and a generated table."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]

HELD_OUT = 0.2  # of the rows

_ROWS, _FEATURES, _HIDDEN, _CLASSES = 100_000, 40, 16, 5


@cache
def rows(name: str) -> tuple[Rows, Rows]:
    """Return training rows and those held out, of "digits" (1,797) or "table" (100,000)."""
    x, y = _digits() if name == "digits" else _table()
    order = np.random.default_rng(0).permutation(len(x))
    count = round(len(x) * HELD_OUT)
    train, held_out = order[count:], order[:count]
    return (x[train], y[train]), (x[held_out], y[held_out])


def _digits() -> Rows:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # noqa: PLC0415

    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y.astype(np.int64)


def _table() -> Rows:
    """Return normal columns, and the class that a random network of one hidden layer gives them."""
    random = np.random.default_rng(1)
    x = random.standard_normal((_ROWS, _FEATURES), dtype=np.float32)
    hidden = np.tanh(x @ random.standard_normal((_FEATURES, _HIDDEN)) / np.sqrt(_FEATURES) * 3)
    return x, (hidden @ random.standard_normal((_HIDDEN, _CLASSES))).argmax(axis=1)
