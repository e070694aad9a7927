"""Products out of tiles: any shape, any start, nothing beside c, and no trace of how it is cut."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba import njit

from gpubp.kernels.numba import gemm, tile

product = gemm.product

# Lengths around the sizes of tiles, vectors and parts; the last ones are beyond a part of the sums,
# a block of rows, and rows of b that are copied for being far apart.
LENGTHS = st.sampled_from(
    [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 33, 48, 49, 64, 100, 257, 513, 600, 1030]
)
flags = st.booleans()


@njit
def multiply(program, a, b, c, transpose_a, transpose_b, start, bias, relu):
    product(program, 0, a, b, c, transpose_a, transpose_b, start, bias, relu)


def run(a, b, c, transpose_a, transpose_b, start=tile.FROM_ZERO, bias=None, relu=False):
    bias = np.zeros(c.shape[1], c.dtype) if bias is None else bias
    program = gemm.address(c.dtype.name)
    multiply(program, a, b, c, transpose_a, transpose_b, start, bias, relu)


def operands(rng, rows, inner, columns, transpose_a, transpose_b, dtype):
    a = rng.standard_normal((inner, rows) if transpose_a else (rows, inner)).astype(dtype)
    b = rng.standard_normal((columns, inner) if transpose_b else (inner, columns)).astype(dtype)
    return a, b


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@settings(max_examples=150, deadline=None)
@given(LENGTHS, LENGTHS, LENGTHS, flags, flags, st.sampled_from([0, 1, 2]), flags)
@example(257, 1030, 600, False, False, tile.FROM_BIAS, True)
def test_products_are_right_and_touch_nothing_else(
    dtype, rows, inner, columns, transpose_a, transpose_b, start, relu
):
    rng = np.random.default_rng(rows + 1000 * inner + 1000_000 * columns)
    a, b = operands(rng, rows, inner, columns, transpose_a, transpose_b, dtype)
    bias = rng.standard_normal(columns).astype(dtype)
    memory = rng.standard_normal(rows * columns + 128).astype(dtype)
    before = memory.copy()
    c = memory[64:-64].reshape(rows, columns)
    old = c.astype(np.float64)
    run(a, b, c, transpose_a, transpose_b, start, bias, relu)
    wide = (x.astype(np.float64) for x in (a.T if transpose_a else a, b.T if transpose_b else b))
    expected = np.matmul(*wide) + {tile.FROM_BIAS: bias, tile.FROM_C: old}.get(start, 0.0)
    expected = np.maximum(expected, 0) if relu else expected
    rounding = np.finfo(dtype).eps * np.sqrt(inner + 1)
    np.testing.assert_allclose(c, expected, rtol=0, atol=8 * rounding * np.sqrt(inner + 1))
    for edge in (slice(64), slice(-64, None)):
        np.testing.assert_array_equal(memory[edge], before[edge])


@settings(max_examples=50, deadline=None)
@given(LENGTHS, LENGTHS, LENGTHS, flags, flags, st.data())
def test_bits_do_not_depend_on_how_c_is_cut(rows, inner, columns, transpose_a, transpose_b, data):
    """Shares of a minibatch, and threads, may cut rows anywhere."""
    rng = np.random.default_rng(5)
    a, b = operands(rng, rows, inner, columns, transpose_a, transpose_b, "float32")
    whole, parts = (np.zeros((rows, columns), np.float32) for _ in range(2))
    run(a, b, whole, transpose_a, transpose_b)
    cut = data.draw(st.integers(0, rows))
    for part in (slice(0, cut), slice(cut, rows)):
        of_a = np.ascontiguousarray(a[:, part] if transpose_a else a[part])
        if parts[part].size:
            run(of_a, b, parts[part], transpose_a, transpose_b)
    np.testing.assert_array_equal(parts, whole)


def test_nan_and_infinity_are_seen():
    a, b = np.ones((3, 5), np.float32), np.ones((5, 20), np.float32)
    a[0, 2], b[1, 3] = np.nan, np.inf
    c = np.zeros((3, 20), np.float32)
    run(a, b, c, False, False, relu=True)
    assert np.isnan(c[0]).all()
    assert np.isinf(c[1:, 3]).all()
    assert (np.delete(c[1:], 3, axis=1) == 5).all()


def test_tiles_are_for_columns_that_fill_vectors(monkeypatch):
    monkeypatch.setattr(gemm, "SUITED", True)
    lanes = tile.REGISTER // 4
    assert gemm.suited("float32", lanes)
    assert gemm.suited("float32", 10 * lanes + 1)
    assert not gemm.suited("float32", 1)
    assert not gemm.suited("float32", lanes + 1)
    monkeypatch.setattr(gemm, "SUITED", False)
    assert not gemm.suited("float32", lanes)
