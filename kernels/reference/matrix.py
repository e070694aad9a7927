"""Matrix products, what may be done to them before they are written, and bias passes."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device

from gpubp.kernels.reference.activations import relu


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
    # In the dtype of c, for its sums are as wide as that even where a and b are not.
    left, right = (xp.astype(x, c.dtype, copy=False) for x in (a, b))
    left = xp.matrix_transpose(left) if transpose_a else left
    right = xp.matrix_transpose(right) if transpose_b else right
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
    db[...] = xp.sum(dz, axis=0, dtype=db.dtype)


def matmul_bias(
    a: Any, b: Any, bias: Any, c: Any, *, transpose_a: bool = False, transpose_b: bool = False
) -> None:
    """c = op(a) op(b) + bias."""
    matmul(a, b, c, transpose_a=transpose_a, transpose_b=transpose_b)
    bias_add(c, bias, c)


def matmul_bias_relu(
    a: Any,
    b: Any,
    bias: Any,
    c: Any,
    mask: Any,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> None:
    """c = max(op(a) op(b) + bias, 0), and a bit in the mask for every c > 0."""
    matmul_bias(a, b, bias, c, transpose_a=transpose_a, transpose_b=transpose_b)
    relu(c, c)
    if mask is not None:
        mask[...] = _packed(c > 0.0, mask.shape[1])


def matmul_relu_delta(
    a: Any, b: Any, mask: Any, c: Any, *, transpose_a: bool = False, transpose_b: bool = False
) -> None:
    """c = op(a) op(b) where the mask's bit is set, else 0."""
    matmul(a, b, c, transpose_a=transpose_a, transpose_b=transpose_b)
    c[...] = array_namespace(mask, c).where(_unpacked(mask, c.shape[1]), c, 0.0)


def matmul_relu_delta_bias_grad(
    a: Any,
    b: Any,
    mask: Any,
    c: Any,
    db: Any,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> None:
    """Do as matmul_relu_delta, and db[j] = sum_i c[i,j]."""
    matmul_relu_delta(a, b, mask, c, transpose_a=transpose_a, transpose_b=transpose_b)
    bias_grad(c, db)


def matmul_bias_grad(a: Any, b: Any, c: Any, db: Any, *, transpose_a: bool = False) -> None:
    """c = op(a) b; db[j] = sum_i b[i,j]."""
    matmul(a, b, c, transpose_a=transpose_a)
    bias_grad(b, db)


def _packed(bits: Any, length: int) -> Any:
    """Return rows of booleans as rows of ``length`` bytes, the lowest bit of a byte first."""
    xp = array_namespace(bits)
    rows, columns = bits.shape
    padded = xp.zeros((rows, 8 * length), dtype=xp.uint8, device=device(bits))
    padded[:, :columns] = xp.astype(bits, xp.uint8)
    values = xp.asarray([1 << place for place in range(8)], dtype=xp.uint8, device=device(bits))
    return xp.sum(xp.reshape(padded, (rows, length, 8)) * values, axis=2, dtype=xp.uint8)


def _unpacked(mask: Any, columns: int) -> Any:
    """Return rows of bytes as rows of ``columns`` booleans."""
    xp = array_namespace(mask)
    places = xp.arange(8, dtype=xp.uint8, device=device(mask))
    bits = (mask[:, :, None] >> places) & 1
    return xp.reshape(bits, (mask.shape[0], 8 * mask.shape[1]))[:, :columns] != 0
