"""Splits rows into training, validation and test, the same for the same seed on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.errors import InputError

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of the three parts, each in ascending order; together every row once."""

    train: Rows
    validation: Rows
    test: Rows


def split(groups: NDArray[Any], *, validation: float, test: float, seed: int) -> Split:
    """Return a random split that holds every group in the same proportions, as near as can be.

    The rows are shuffled, sorted by group and then taken at even steps, so that a part has within
    one row of its share of each group. The shuffle is the order of a bit generator's raw words,
    which NumPy promises never to change, unlike the methods of its Generator (NEP 19).

    Args:
        groups: (N,) class ids, or all equal.
        validation: share of the rows, at least 0.
        test: share of the rows, at least 0; the two together below 1.
        seed: at least 0.

    Raises:
        InputError: a share is negative or no row is left for training.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise InputError(
            f"the validation share {validation} and the test share {test} must be at least 0 and "
            "below 1 together"
        )
    rows = len(groups)
    shuffled = np.argsort(np.random.PCG64(seed).random_raw(rows), kind="stable")
    order = shuffled[np.argsort(groups[shuffled], kind="stable")]
    in_test = _every(rows, test)
    rest = order[~in_test]
    in_validation = _every(len(rest), validation / (1 - test))
    return Split(
        train=np.sort(rest[~in_validation]),
        validation=np.sort(rest[in_validation]),
        test=np.sort(order[in_test]),
    )


def _every(rows: int, share: float) -> NDArray[np.bool_]:
    """Return a mask of floor(rows share) True values at even steps."""
    steps = np.floor(np.arange(rows + 1) * share + 1e-9)
    return np.asarray(np.diff(steps) > 0)
