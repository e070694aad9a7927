"""The matrix products of the stand-in: in float64, rounded once to the dtype of the result."""

import numpy as np

from gpubp.kernels.contract import mask_bytes

# bfloat16 arrays are uint16 arrays of their bits.
STORED = {"float32": "float32", "float64": "float64", "bfloat16": "uint16"}


def encode(values, dtype):
    """Return real values as an array that holds ``dtype``, rounded to nearest even."""
    if dtype != "bfloat16":
        return np.asarray(values, dtype)
    single = np.asarray(values, np.float32)
    bits = single.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(single), (bits >> 16) | 0x40, rounded).astype(np.uint16)


def decode(array, dtype):
    """Return the values of an array that holds ``dtype``: bfloat16 as float32."""
    if dtype != "bfloat16":
        return np.asarray(array)
    return (np.asarray(array).astype(np.uint32) << 16).view(np.float32)


def shapes(gemm):
    """Return shape and stored dtype of each operand of a product, by name."""
    lead = (gemm.batch,) if gemm.batch > 1 else ()
    a, b = (gemm.rows, gemm.inner), (gemm.inner, gemm.columns)
    wide = "float64" if gemm.dtype == "float64" else "float32"
    vector = gemm.out_dtype if gemm.epilogue in ("bias", "bias_relu") else wide
    return {
        "a": ((*lead, *(a[::-1] if gemm.transpose_a else a)), STORED[gemm.dtype]),
        "b": ((*lead, *(b[::-1] if gemm.transpose_b else b)), STORED[gemm.dtype]),
        "c": ((*lead, gemm.rows, gemm.columns), STORED[gemm.out_dtype]),
        "vector": ((gemm.columns,), STORED[vector]),
        "mask": ((gemm.rows, mask_bytes(gemm.columns)), "uint8"),
    }


def needed(gemm):
    """Return the names of the operands that a product has."""
    vector = "bias" in gemm.epilogue
    mask = gemm.masked or gemm.epilogue.startswith("relu_delta")
    return ("a", "b", "c", *(["vector"] if vector else []), *(["mask"] if mask else []))


@np.errstate(all="ignore")  # what is not finite is a result, as on a GPU
def multiply(gemm, a, b, c, vector=None, mask=None):
    """Do the product on arrays of these shapes."""
    left, right = (_operand(x, gemm) for x in (a, b))
    p = np.matmul(
        left.swapaxes(-1, -2) if gemm.transpose_a else left,
        right.swapaxes(-1, -2) if gemm.transpose_b else right,
    )
    if gemm.accumulate:
        p += decode(c, gemm.out_dtype)
    if gemm.epilogue in ("bias", "bias_relu"):
        p += decode(vector, gemm.out_dtype)
    if gemm.epilogue == "bias_relu":
        p = np.where(p > 0, p, np.where(np.isnan(p), p, 0))
        if mask is not None:
            mask[...] = 0
            bits = np.packbits(p > 0, axis=-1, bitorder="little")
            mask[:, : bits.shape[1]] = bits
    if gemm.epilogue.startswith("relu_delta"):
        kept = np.unpackbits(mask, axis=-1, count=gemm.columns, bitorder="little")
        p = np.where(kept, p, 0)
    if gemm.epilogue.endswith("bias_grad"):
        vector[...] = (right if gemm.epilogue == "bias_grad" else p).sum(axis=-2)
    c[...] = encode(p, gemm.out_dtype)


def _operand(array, gemm):
    values = decode(array, gemm.dtype).astype(np.float64)
    return _tf32(values) if gemm.tf32 else values


def _tf32(values):
    """Return the values rounded to the 10 bits of mantissa that TF32 has."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2**11) / 2**11, exponent)
