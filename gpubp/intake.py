"""What the trainer takes in: arguments checked, rows held out, arrays put where they are used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gpubp.backends.base import Backend
from gpubp.data import check
from gpubp.data.admit import admit
from gpubp.engine import EVALUATION_ROWS, Engine
from gpubp.errors import InputError
from gpubp.feed import Data
from gpubp.losses import Loss
from gpubp.network import Sequential
from gpubp.settings import whole_number
from gpubp.streams import VALIDATION_SPLIT

_USUAL_ROWS = 32  # of a minibatch
_MOST = 2**63 - 1  # of what is counted in int64


def checked(
    backend: Backend,
    network: Sequential,
    loss: Loss,
    X: Any,
    y: Any,
    sample_weight: Any,
    *,
    columns: int | None,
    fitting: bool,
) -> Data:
    """Return a user's arrays, checked, where they are.

    Raises:
        InputError: the data can't be used.
    """
    given = {"X": X, "y": y, "sample_weight": sample_weight}
    X, y, sample_weight = (admit(array, backend, name) for name, array in given.items())
    x = check.features(X, columns=columns)
    rows, outputs = int(x.shape[0]), network.outputs(int(x.shape[1]))
    y = loss.check_targets(y, rows=rows, outputs=outputs, fitting=fitting)
    weights = None if sample_weight is None else check.weights(sample_weight, rows=rows)
    return Data(x, y, weights)


def validation(given: object) -> tuple[Any, Any, Any]:
    """Return X, y and weights or None of validation data.

    Raises:
        InputError: it is no pair or triple.
    """
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        length = f" of {len(given)}" if isinstance(given, tuple | list) else ""
        raise InputError(
            f"validation_data is a {type(given).__name__}{length}, but needs (X, y) or "
            "(X, y, sample_weight)"
        )
    X, y, *weights = given
    return X, y, weights[0] if weights else None


def split(data: Data, fraction: float, engine: Engine) -> tuple[Data, Data | None]:
    """Return training data and, None if ``fraction`` is 0, validation data drawn by the seed.

    Raises:
        InputError: a part would have no row.
    """
    if not 0 <= fraction < 1:
        raise InputError(f"validation_fraction must be at least 0 and below 1, got {fraction!r}")
    if not fraction:
        return data, None
    xp, rows = engine.backend.xp, data.size
    order = engine.permutation(rows, VALIDATION_SPLIT, 0)
    if data.weights is not None:
        order, rows = _weighing_first(engine.backend, order, data.weights)
    held_out = round(rows * fraction) or int(data.weights is not None)
    if not 0 < held_out < rows:
        weighing = "" if data.weights is None else " that weigh more than 0"
        raise InputError(
            f"validation_fraction={fraction} of {rows} rows{weighing} is {held_out}; "
            "both parts need a row at least"
        )
    validation, training = xp.sort(order[:held_out]), xp.sort(order[held_out:])
    return replace(data, rows=training), replace(data, rows=validation)


def _weighing_first(backend: Backend, order: Any, weights: Any) -> tuple[Any, int]:
    """Return an order of rows with those that weigh more than 0 before the others, and how many."""
    rows, host = (
        np.asarray(backend.to_host(array) if backend.holds(array) else array)
        for array in (order, weights)
    )
    counts = host[rows] > 0
    parted = np.concatenate((rows[counts], rows[~counts]))
    return backend.to_device(parted), int(counts.sum())


def placed(
    engine: Engine, data: Data, validation: Data | None, batch_size: int
) -> tuple[Data, Data | None]:
    """Return training and validation data where they are computed on.

    Raises:
        DeviceMemoryError: there is too little device memory.
    """
    reserve = engine.check_memory(data, batch_size)
    moved: dict[int, Any] = {}  # arrays that both have are moved once
    data = data.placed(engine.backend, batch_size, reserve, moved)
    if validation is not None:
        validation = validation.placed(engine.backend, EVALUATION_ROWS, reserve, moved)
    return data, validation


def count(name: str, value: object, most: int = _MOST) -> int:
    """Return a whole number above 0 as an int.

    Raises:
        InputError: it is none, or above ``most``.
    """
    number = whole_number(value)
    if number is None or not 1 <= number <= most:
        limits = "1 at least" if most == _MOST else f"from 1 to {most:,}"
        raise InputError(f"{name} must be a whole number, {limits}, got {value!r}")
    return number


def rows_of_minibatch(batch_size: object, rows: int) -> int:
    """Return a minibatch's rows: as many as are asked for, by default 32 or all if fewer are there.

    Raises:
        InputError: that is no whole number from 1 to ``rows``.
    """
    if batch_size is None:
        return min(_USUAL_ROWS, rows)
    number = count("batch_size", batch_size)
    if number > rows:
        raise InputError(
            f"batch_size is {number}, but there are {rows} rows to train on; use at most {rows}"
        )
    return number
