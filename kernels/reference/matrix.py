"""Matrix products, bias addition and bias gradient."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace


def matmul(
    a: Any,
    b: Any,
    c: Any,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    accumulate: bool = False,
) -> None:
    """Write op(a) op(b), or add it, to c."""
    xp = array_namespace(a, b, c)
    left = xp.matrix_transpose(a) if transpose_a else a
    right = xp.matrix_transpose(b) if transpose_b else b
    product = xp.matmul(left, right)
    c[...] = c + product if accumulate else product


def batched_matmul(
    a: Any,
    b: Any,
    c: Any,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    accumulate: bool = False,
) -> None:
    """Do as matmul for every index of the first axis."""
    matmul(a, b, c, transpose_a=transpose_a, transpose_b=transpose_b, accumulate=accumulate)


def bias_add(z: Any, b: Any, out: Any) -> None:
    """out[i,j] = z[i,j] + b[j]."""
    out[...] = z + b


def bias_grad(dz: Any, db: Any) -> None:
    """db[j] = sum_i dz[i,j]."""
    xp = array_namespace(dz, db)
    db[...] = xp.sum(dz, axis=0)
