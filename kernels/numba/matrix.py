"""Matrix products by tiles or BLAS, bias addition and bias gradient.

Products take two addresses: of a program that computes the whole, out of tiles or with the help of
the second; and of the Fortran gemm that is called where the first is 0 (see entry.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from gpubp.kernels.numba import gemm
from gpubp.kernels.numba.compiled import FLAGS
from gpubp.kernels.numba.intrinsics import gemm as fortran_gemm
from gpubp.kernels.numba.intrinsics import like
from gpubp.kernels.numba.tile import FROM_BIAS, FROM_C, FROM_ZERO

_product = gemm.product


@njit(**FLAGS)
def matmul(
    a: Any, b: Any, c: Any, transpose_a: bool, transpose_b: bool, accumulate: bool,
    tiles: int, blas: int,
) -> None:  # fmt: skip
    """c = a b, or c += a b."""
    if tiles != 0:
        start = FROM_C if accumulate else FROM_ZERO
        _product(tiles, blas, a, b, c, transpose_a, transpose_b, start, c, False)
    else:
        fortran_gemm(blas, a, b, c, transpose_a, transpose_b, accumulate)


@njit(**FLAGS)
def batched_matmul(
    a: Any, b: Any, c: Any, transpose_a: bool, transpose_b: bool, accumulate: bool,
    tiles: int, blas: int,
) -> None:  # fmt: skip
    """c[n] = a[n] b[n], or c[n] += a[n] b[n]."""
    for n in range(c.shape[0]):
        matmul(a[n], b[n], c[n], transpose_a, transpose_b, accumulate, tiles, blas)


@njit(**FLAGS)
def matmul_bias(
    a: Any, b: Any, bias: Any, c: Any, transpose_a: bool, transpose_b: bool, tiles: int, blas: int
) -> None:
    """c = a b + bias."""
    if tiles != 0:
        _product(tiles, blas, a, b, c, transpose_a, transpose_b, FROM_BIAS, bias, False)
    else:
        fortran_gemm(blas, a, b, c, transpose_a, transpose_b, False)
        bias_add(c, bias, c)


@njit(**FLAGS)
def matmul_bias_relu(
    a: Any, b: Any, bias: Any, c: Any, mask: Any, transpose_a: bool, transpose_b: bool,
    tiles: int, blas: int,
) -> None:  # fmt: skip
    """c = max(a b + bias, 0); mask: a bit for each element of c that is above 0."""
    if tiles != 0:
        _product(tiles, blas, a, b, c, transpose_a, transpose_b, FROM_BIAS, bias, True)
    else:
        fortran_gemm(blas, a, b, c, transpose_a, transpose_b, False)
        for i in range(c.shape[0]):
            for j in range(c.shape[1]):
                z = c[i, j] + bias[j]
                c[i, j] = like(0.0, z) if z < like(0.0, z) else z
    if mask is not None:
        mask[:] = 0
        for i in range(c.shape[0]):
            for j in range(c.shape[1]):
                mask[i, j // 8] |= np.uint8((c[i, j] > 0) << (j % 8))


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
