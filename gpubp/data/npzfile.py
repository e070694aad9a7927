"""Reads an .npz file: its arrays become columns."""

from __future__ import annotations

import math
import unicodedata
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.data.names import shorten
from gpubp.errors import InputError
from gpubp.kernels.contract import REAL_DTYPES

Columns = dict[str, NDArray[Any]]


def read(path: Path) -> Columns:
    """Return the arrays of a file: of rank 1 a column each, of a higher rank a column an element.

    The column of element j of the flattened rows of an array ``X`` is named ``X[j]``.

    Raises:
        InputError: it can't be read, or its arrays are no columns of one length.
        OSError: it can't be opened.
    """
    columns: Columns = {}
    try:
        # The file is opened here because np.load leaves it open where it fails.
        with (
            path.open("rb") as file,
            zipfile.ZipFile(file),
            np.load(file, allow_pickle=False) as arrays,
        ):
            for name in arrays.files:
                columns.update(_columns(name, arrays[name]))
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory: {error}") from error
    # Encrypted, of another compression, or of bytes that are no array.
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        LookupError,
        RuntimeError,
    ) as error:
        raise InputError(f"{path} can't be read as an .npz file: {error}") from error
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        sizes = shorten(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{path}: the arrays differ in their number of rows: {sizes}")
    if not columns or not next(iter(lengths.values())):
        raise InputError(f"{path} holds no rows")
    composed = {unicodedata.normalize("NFC", name): column for name, column in columns.items()}
    if len(composed) < len(columns):
        raise InputError(f"{path}: two arrays have names that look alike; rename one")
    return composed


def _columns(name: str, array: NDArray[Any]) -> Columns:
    if not isinstance(array, np.ndarray):  # bytes: NumPy's word for a member that is not .npy
        raise ValueError(f"{name!r} in it is not an array; leave it out")
    if array.ndim == 0:
        raise ValueError(f"array {name!r} is a single value; every array needs a value a row")
    if array.dtype.kind in "SU":
        array = array.astype(np.str_).astype(np.dtypes.StringDType())
    elif array.dtype.name == "float16":
        array = array.astype(np.float32)
    elif array.dtype.name not in REAL_DTYPES:
        raise ValueError(f"array {name!r} has dtype {array.dtype}; numbers or texts are needed")
    # Columns are used one by one: transposed once, each lies in one piece.
    flat = np.ascontiguousarray(array.reshape(len(array), math.prod(array.shape[1:])).T)
    if len(flat) == 1:
        return {name: flat[0]}
    return {f"{name}[{element}]": column for element, column in enumerate(flat)}
