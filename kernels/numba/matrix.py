"""Matrix products by BLAS, bias addition and bias gradient."""

from __future__ import annotations

from typing import Any

from numba import njit

from gpubp.kernels.numba.compiled import FLAGS


@njit(**FLAGS)
def bias_add(z: Any, b: Any, out: Any) -> None:
    """out[i,j] = z[i,j] + b[j]."""
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            out[i, j] = z[i, j] + b[j]
