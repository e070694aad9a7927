"""Runs one Numba kernel on NumPy arrays: the way of ``gpubp.ops`` and of the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.errors import OperandError
from gpubp.kernels import bfloat16
from gpubp.kernels.contract import dtype_name
from gpubp.kernels.numba import compiled, entry
from gpubp.kernels.spec import kernel as contract


def run(
    name: str,
    operands: Sequence[NDArray[Any] | None],
    scalars: Mapping[str, entry.Number] | None = None,
) -> None:
    """Run a kernel on C-contiguous NumPy arrays, outputs last, as its contract lists them.

    Raises:
        OperandError: shapes, dtypes or scalars break the contract, or an array's layout.
    """
    kernel = contract(name)
    scalars = scalars or {}
    shown = [
        None if array is None else bfloat16.seen(declared, array)
        for declared, array in zip(kernel.operands, operands, strict=True)
    ]
    kernel.bind(shown, scalars)
    for declared, array in zip(kernel.operands, operands, strict=True):
        if array is None:
            continue
        if not (array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative):
            raise OperandError(
                f"{name}: operand {declared.name!r} is not C-contiguous, aligned and of native "
                f"byte order, which a compiled kernel needs; pass numpy.require(..., "
                f"numpy.{array.dtype.name}, 'CA') of it"
            )
    variant = entry.Variant(
        name, tuple(None if array is None else dtype_name(array.dtype) for array in shown)
    )
    places = [None if array is None else (array.ctypes.data, array.shape) for array in operands]
    words = np.array(entry.words(variant, places, scalars), np.int64)
    compiled.c_function(entry.address(variant))(words.ctypes.data)
