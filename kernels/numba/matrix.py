"""Matrix products by BLAS, bias addition and bias gradient."""

from __future__ import annotations

from typing import Any

from numba import njit

from gpubp.kernels.numba.compiled import FLAGS
from gpubp.kernels.numba.intrinsics import gemm


@njit(**FLAGS)
def matmul(
    a: Any, b: Any, c: Any, transpose_a: bool, transpose_b: bool, accumulate: bool, blas: int
) -> None:
    """c = a b, or c += a b; ``blas`` is the address of the Fortran gemm of this dtype."""
    gemm(blas, a, b, c, transpose_a, transpose_b, accumulate)


@njit(**FLAGS)
def batched_matmul(
    a: Any, b: Any, c: Any, transpose_a: bool, transpose_b: bool, accumulate: bool, blas: int
) -> None:
    """c[n] = a[n] b[n], or c[n] += a[n] b[n]."""
    for n in range(c.shape[0]):
        gemm(blas, a[n], b[n], c[n], transpose_a, transpose_b, accumulate)


@njit(**FLAGS)
def bias_add(z: Any, b: Any, out: Any) -> None:
    """out[i,j] = z[i,j] + b[j]."""
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            out[i, j] = z[i, j] + b[j]


@njit(**FLAGS)
def bias_grad(dz: Any, db: Any) -> None:
    """db[j] = sum_i dz[i,j]."""
    for j in range(db.size):
        db[j] = 0
    for i in range(dz.shape[0]):
        for j in range(dz.shape[1]):
            db[j] += dz[i, j]
