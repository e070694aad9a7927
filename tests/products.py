"""Matrix products to try on a driver, with operands of which every result is exact."""

from dataclasses import replace
from itertools import product

import numpy as np
from host_cuda.products import encode, multiply, needed, shapes

from gpubp.kernels.cuda.driver import Gemm

# dtype of the operands, of the result, whether TF32.
PRECISIONS = (
    ("float32", "float32", False),
    ("float32", "float32", True),
    ("float64", "float64", False),
    ("bfloat16", "bfloat16", False),
    ("bfloat16", "float32", False),
)
EPILOGUES = (
    ("bias", False), ("bias_relu", False), ("bias_relu", True), ("relu_delta", True),
    ("relu_delta_bias_grad", True), ("bias_grad", False),
)  # fmt: skip


def gemms():
    """Return products with and without epilogues, in every precision."""
    found = []
    for dtype, out_dtype, tf32 in PRECISIONS:
        plain = Gemm(24, 40, 136, False, False, dtype, out_dtype, tf32)
        found += [
            replace(plain, transpose_a=ta, transpose_b=tb)
            for ta, tb in product((False, True), repeat=2)
        ]
        found += [replace(plain, accumulate=True), replace(plain, batch=3, transpose_b=True)]
        found += [replace(plain, rows=5, inner=3, columns=7), replace(plain, columns=1)]
        # The contracts' dtypes of c: where it is not free, a weight's gradient alone is wide.
        wide = out_dtype != "bfloat16"
        found += [
            replace(plain, epilogue=epilogue, masked=masked, transpose_a=epilogue == "bias_grad")
            for epilogue, masked in EPILOGUES
            if epilogue == "bias" or (wide if epilogue == "bias_grad" else dtype == out_dtype)
        ]
    return found


def operands(gemm):
    """Return a product's operands by name: small integers, which every dtype holds exactly."""
    rng = np.random.default_rng(gemm.rows)
    made = {}
    for name in needed(gemm):
        shape, stored = shapes(gemm)[name]
        if name == "mask":
            made[name] = rng.integers(0, 256, shape, np.uint8)
            continue
        values = rng.integers(-2, 3, shape).astype(np.float64)
        made[name] = encode(values, "bfloat16") if stored == "uint16" else values.astype(stored)
    return made


def expected(gemm, given):
    """Return the operands after the product, a ReLU's mask without the bits that pad its rows."""
    after = {name: array.copy() for name, array in given.items()}
    multiply(gemm, **after)
    return after


def same(gemm, name, found, wanted):
    """Return whether two results are the same bits, those that mean something."""
    if name == "mask":
        found, wanted = (
            np.unpackbits(mask, axis=1, count=gemm.columns, bitorder="little")
            for mask in (found, wanted)
        )
    return np.array_equal(found, wanted)
