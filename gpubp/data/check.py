"""Checks of the arrays that a user hands in, before anything is computed from them.

They take arrays of any array library (NumPy, CuPy, array-api-strict), leave them on their device
and hand them on: what can be used in place is returned as the very object that came in, so that an
``np.memmap`` larger than memory stays one. Values are scanned in blocks, once; of an array on a GPU
only a truth value a block comes to the host.
Every refusal is an :class:`~gpubp.errors.InputError` that names the value, where it is, and a
remedy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj

from gpubp.data.admit import library, on_gpu
from gpubp.errors import CopyWarning, InputError, warn
from gpubp.kernels.contract import REAL_DTYPES, dtype_name

# Large enough that the cost of a call vanishes, small enough to stay in a CPU's cache. On a GPU
# each block is waited for, and a quarter of it is needed beside the data.
_BLOCK_BYTES = 4 << 20
_GPU_BLOCK_BYTES = 64 << 20


def features(X: Any, *, columns: int | None = None, name: str = "X") -> Any:
    """Return ``X`` if it can be a network's input.

    Args:
        X: (N, I), any real dtype of :data:`~gpubp.kernels.contract.REAL_DTYPES`.
        columns: the I that is needed; None takes any.
        name: what the messages call it.

    Returns:
        ``X`` itself if it is C-contiguous; else a contiguous copy, with a ``CopyWarning``.

    Raises:
        InputError: not an array, not of two dimensions, no row or no column, another number of
            columns, a dtype that is not real, or a NaN or infinity (the first is named).
    """
    _array(X, name)
    if X.ndim != 2:
        raise InputError(
            f"{name} has shape {_shape(X)}, but needs two dimensions, rows and columns; "
            f"{_reshape_hint(X, name)}"
        )
    _not_empty(X, name)
    if columns is not None and X.shape[1] != columns:
        raise InputError(f"{name} has {X.shape[1]} columns, but the network takes {columns}")
    _real(X, name)
    _finite(X, name)
    return _usable(X, name, told=True)


def labels(y: Any, *, rows: int, classes: int | None = None, name: str = "y") -> Any:
    """Return ``y`` as int64 if it can be the class ids of ``rows`` rows.

    Args:
        y: (N,), an integer dtype or bool.
        rows: the N that is needed.
        classes: the number of classes, ids from 0 on; None when they are still to be learned, and
            then there must be two at least.
        name: what the messages call it.

    Returns:
        (N,) int64; ``y`` itself if it is that already.

    Raises:
        InputError: not an array, not of one dimension, another number of rows, a dtype that is
            not integer, an id that is negative or too large (the first is named), or one class
            only.
    """
    _array(y, name)
    if y.ndim != 1:
        raise InputError(
            f"{name} has shape {_shape(y)}, but class ids need one dimension, an id a row; "
            + (f"use {name}.reshape(-1)" if 1 in y.shape else f"for one-hot rows, {name}.argmax(1)")
        )
    _rows(y, rows, name)
    dtype = dtype_name(y.dtype)
    if dtype not in REAL_DTYPES or dtype.startswith("float"):
        raise InputError(
            f"{name} has dtype {dtype}, but class ids are integers; encode them with "
            f"np.unique({name}, return_inverse=True)[1], or for regression choose a loss such as "
            "'squared_error'"
        )
    xp = array_namespace(y)
    ids = _usable(y if dtype == "int64" else xp.astype(y, xp.int64), name)
    lowest, highest = int(xp.min(ids)), int(xp.max(ids))
    if lowest < 0:
        row = _first(ids < 0, xp)
        raise InputError(f"{name} has {int(ids[row])} at row {row}, but class ids start at 0")
    if classes is not None and highest >= classes:
        row = _first(ids >= classes, xp)
        raise InputError(
            f"{name} has {int(ids[row])} at row {row}, but with {classes} classes the ids go from "
            f"0 to {classes - 1}"
        )
    if classes is None and lowest == highest:
        raise InputError(
            f"{name} holds the single class {lowest}, but a classifier needs two at least"
        )
    return ids


def values(y: Any, *, rows: int, columns: int | None = None, name: str = "y") -> Any:
    """Return ``y`` as a float matrix if it can be the targets of ``rows`` rows.

    Args:
        y: (N,) or (N, K), any real dtype.
        rows: the N that is needed.
        columns: the K that is needed; None takes any.
        name: what the messages call it.

    Returns:
        (N, K) float32 or float64, without a copy where that is possible; integers become float64.

    Raises:
        InputError: not an array, not of one or two dimensions, no row or no column, another
            number of rows or columns, a dtype that is not real, or a NaN or infinity (the first
            is named).
    """
    _array(y, name)
    if y.ndim not in (1, 2):
        raise InputError(
            f"{name} has shape {_shape(y)}, but targets need one or two dimensions; "
            f"{_reshape_hint(y, name)}"
        )
    _real(y, name)
    xp = array_namespace(y)
    table = xp.reshape(y, (y.shape[0], 1)) if y.ndim == 1 else y
    _rows(table, rows, name)
    if columns is not None and table.shape[1] != columns:
        raise InputError(
            f"{name} has {table.shape[1]} columns, but the network's output has {columns}"
        )
    _finite(table, name)
    return _usable(_floating(table, xp), name)


def weights(w: Any, *, rows: int, name: str = "sample_weight") -> Any:
    """Return ``w`` as floats if it can be the weights of ``rows`` rows.

    Args:
        w: (N,), any real dtype.
        rows: the N that is needed.
        name: what the messages call it.

    Returns:
        (N,) float32 or float64; ``w`` itself if it is that already.

    Raises:
        InputError: not an array, not of one dimension, another number of rows, a dtype that is
            not real, a NaN, an infinity or a negative weight (the first is named), or all zero.
    """
    _array(w, name)
    if w.ndim != 1:
        raise InputError(f"{name} has shape {_shape(w)}, but needs one dimension, a weight a row")
    _real(w, name)
    _rows(w, rows, name)
    xp = array_namespace(w)
    _finite(xp.reshape(w, (w.shape[0], 1)), name)
    weight = _usable(_floating(w, xp), name)
    if bool(xp.any(weight < 0)):
        row = _first(weight < 0, xp)
        raise InputError(
            f"{name} has {float(weight[row])} at row {row}, but weights can't be negative; "
            "0 leaves a row out"
        )
    if not bool(xp.any(weight > 0)):
        raise InputError(f"{name} is 0 in every row, so that there is nothing to train on")
    return weight


def _array(array: Any, name: str) -> None:
    if not is_array_api_obj(array):
        convert = "toarray" if hasattr(array, "toarray") else "to_numpy"
        remedy = f"{name}.{convert}()" if hasattr(array, convert) else f"np.asarray({name})"
        raise InputError(f"{name} is a {type(array).__name__}, not an array; pass {remedy}")
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(
            f"{name} is a masked array, whose mask would be lost; pass {name}.filled(value)"
        )


def _real(array: Any, name: str) -> None:
    dtype = dtype_name(array.dtype)
    if dtype in REAL_DTYPES:
        return
    remedy = {
        "float16": f"{name}.astype('float32')",
        "bfloat16": f"{name}.astype('float32')",
        "object": f"{name}.astype('float32'), which fails where a value is not a number",
        "complex64": f"{name}.real",
        "complex128": f"{name}.real",
    }.get(dtype, "numbers")
    raise InputError(
        f"{name} has dtype {dtype}, but needs float32, float64, an integer or bool; pass {remedy}"
    )


def _not_empty(array: Any, name: str) -> None:
    for axis, count in zip(("row", "column"), array.shape, strict=False):
        if count == 0:
            raise InputError(f"{name} has shape {_shape(array)}: it needs a {axis} at least")


def _rows(array: Any, rows: int, name: str) -> None:
    _not_empty(array, name)
    if array.shape[0] != rows:
        raise InputError(f"{name} has {array.shape[0]} rows, but the data has {rows}")


def _finite(table: Any, name: str) -> None:
    """Refuse the first NaN or infinity of a matrix, in row order."""
    if not dtype_name(table.dtype).startswith("float"):
        return
    xp = array_namespace(table)
    rows, columns = table.shape
    size = _GPU_BLOCK_BYTES if on_gpu(table) else _BLOCK_BYTES
    block = max(1, size // (columns * (4 if table.dtype == xp.float32 else 8)))
    for start in range(0, rows, block):
        part = table[start : min(start + block, rows), :]
        finite = xp.isfinite(part)
        if bool(xp.all(finite)):
            continue
        row, column = divmod(_first(xp.reshape(~finite, (-1,)), xp), columns)
        raise InputError(
            f"{name} has {float(part[row, column])} at row {start + row}, column {column} "
            "(counted from 0); drop or fill such rows first"
        )


def _first(condition: Any, xp: Any) -> int:
    """Return the position of the first True in a vector that has one."""
    return int(xp.argmax(xp.astype(condition, xp.int8)))


def _floating(array: Any, xp: Any) -> Any:
    if dtype_name(array.dtype).startswith("float"):
        return array
    return xp.astype(array, xp.float64)


def _usable(array: Any, name: str, told: bool = False) -> Any:
    """Return the array, copied only if kernels could not read its memory as it lies."""
    torch = hasattr(array, "is_contiguous")
    flags = getattr(array, "flags", None)
    contiguous = array.is_contiguous() if torch else getattr(flags, "c_contiguous", True)
    aligned = getattr(flags, "aligned", True)
    if contiguous and aligned and getattr(array.dtype, "isnative", True):
        return array
    if told:
        copy = f"{name}.contiguous()" if torch else f"{library(array)}.ascontiguousarray({name})"
        warn(
            f"{name} is not a C-contiguous array in native byte order and was copied; "
            f"{copy} once, before, saves the copy",
            CopyWarning,
        )
    return array.contiguous() if torch else array.astype(array.dtype.newbyteorder("="), order="C")


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(array.shape)


def _reshape_hint(array: Any, name: str) -> str:
    if array.ndim == 0:
        return "it is a single number"
    if array.ndim == 1:
        return f"use {name}.reshape(-1, 1) for one column, {name}.reshape(1, -1) for one row"
    return f"use {name}.reshape({array.shape[0]}, -1)"
