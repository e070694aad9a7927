"""bfloat16 on the host: the upper half of a float32, kept as its bits in uint16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_float32(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the values that bits stand for, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def from_float32(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Return the bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    values = np.ascontiguousarray(values, np.float32)
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype(np.uint16)
