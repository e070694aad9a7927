"""bfloat16 on the host: the upper half of a float32, kept as its bits in uint16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.kernels.contract import ArrayLike, Operand, Shape, dtype_name


@dataclass(frozen=True, slots=True)
class Form:
    """What a contract's check looks at of an array."""

    shape: Shape
    dtype: str = "bfloat16"


def seen(declared: Operand, array: ArrayLike) -> ArrayLike:
    """Return an array, or its form where the operand can only be bfloat16 and it is of bits."""
    bits = declared.dtype == "bfloat16" and dtype_name(array.dtype) == "uint16"
    return Form(tuple(array.shape)) if bits else array


def stored(dtype: str) -> str:
    """Return the dtype of the arrays that hold a dtype on the host."""
    return "uint16" if dtype == "bfloat16" else dtype


def to_float32(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the values that bits stand for, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def from_float32(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Return the bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    values = np.ascontiguousarray(values, np.float32)
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype(np.uint16)
