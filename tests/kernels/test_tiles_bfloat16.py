"""Products of bfloat16, by pairs and in float32: any shape, any start, nothing beside c."""

import numpy as np
import pytest
from host_cuda.products import decode, encode
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpubp.kernels.numba import compiled, gemm_bfloat16, tile

# Lengths around the sizes of tiles, vectors, pairs and parts; the last ones are beyond a part of
# the sums, a block of rows, and a span of columns.
LENGTHS = st.sampled_from([1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 33, 48, 49, 64, 100, 257, 771])
flags = st.booleans()
WAYS = ["pairs"] * gemm_bfloat16.SUITED_TO_PAIRS + ["wide"]
every_way = pytest.mark.parametrize("way", WAYS)
NARROW, WIDE = "bfloat16", "float32"


def run(way, a, b, c, transposed, start=tile.FROM_ZERO, bias=None, relu=False):
    """Multiply arrays of bits into c, which is bits or float32, as is the bias.

    a and c may be columns of wider arrays.
    """
    bias = np.zeros(c.shape[1], c.dtype) if bias is None else bias
    dtypes = (NARROW if array.dtype == np.uint16 else WIDE for array in (c, bias))
    program = gemm_bfloat16.address_of(way, *dtypes)
    inner = a.shape[0] if transposed[0] else a.shape[1]
    words = [
        a.ctypes.data, b.ctypes.data, c.ctypes.data, c.shape[0], inner, c.shape[1], *transposed,
        start, bias.ctypes.data, relu, *(x.strides[0] // x.itemsize for x in (a, c)),
    ]  # fmt: skip
    compiled.c_function(program)(np.array(words, np.int64).ctypes.data)


def operands(rng, rows, inner, columns, transposed):
    """Return a and b as bits, whose memory ends with them."""
    a = rng.standard_normal((inner, rows) if transposed[0] else (rows, inner))
    b = rng.standard_normal((columns, inner) if transposed[1] else (inner, columns))
    return encode(a, NARROW), encode(b, NARROW)


def exact(a, b, transposed):
    """Return the product in float64, and that of the operands' sizes, which bounds its error."""
    left, right = (decode(x, NARROW).astype(np.float64) for x in (a, b))
    left, right = left.T if transposed[0] else left, right.T if transposed[1] else right
    return left @ right, np.abs(left) @ np.abs(right)


def check(way, rows, inner, columns, transposed, start, relu, dtypes):
    rng = np.random.default_rng(rows + 1000 * inner + 1000_000 * columns)
    a, b = operands(rng, rows, inner, columns, transposed)
    bias = encode(rng.standard_normal(columns), dtypes[1])
    memory = encode(rng.standard_normal(rows * columns + 128), dtypes[0])
    before = memory.copy()
    c = memory[64:-64].reshape(rows, columns)
    expected, size = exact(a, b, transposed)
    if start != tile.FROM_ZERO:
        added = decode(bias, dtypes[1]) if start == tile.FROM_BIAS else decode(c, dtypes[0])
        expected, size = expected + added, size + np.abs(added)
    expected = np.maximum(expected, 0) if relu else expected
    run(way, a, b, c, transposed, start, bias, relu)
    rounding = 2.0**-8 * np.abs(expected) if dtypes[0] == NARROW else 0.0
    off = np.abs(decode(c, dtypes[0]) - expected)
    assert (off <= 1.01 * rounding + 2.0**-22 * np.sqrt(inner + 1) * size).all()
    for edge in (slice(64), slice(-64, None)):
        np.testing.assert_array_equal(memory[edge], before[edge])


@every_way
@settings(max_examples=150, deadline=None)
@given(
    LENGTHS, LENGTHS, LENGTHS, st.tuples(flags, flags), st.sampled_from([0, 1, 2]), flags,
    st.tuples(*[st.sampled_from([NARROW, WIDE])] * 2),
)  # fmt: skip
@example(257, 1543, 790, (False, False), tile.FROM_BIAS, True, (NARROW, WIDE))
@example(257, 1543, 790, (True, True), tile.FROM_C, False, (NARROW, NARROW))
def test_products_are_right_and_touch_nothing_else(
    way, rows, inner, columns, transposed, start, relu, dtypes
):
    check(way, rows, inner, columns, transposed, start, relu, dtypes)


@every_way
@settings(max_examples=50, deadline=None)
@given(LENGTHS, LENGTHS, LENGTHS, st.tuples(flags, flags), st.data())
def test_bits_do_not_depend_on_how_c_is_cut(way, rows, inner, columns, transposed, data):
    """Shares of a minibatch, and threads, may cut rows anywhere."""
    rng = np.random.default_rng(5)
    a, b = operands(rng, rows, inner, columns, transposed)
    whole, parts = (np.zeros((rows, columns), np.float32) for _ in range(2))
    run(way, a, b, whole, transposed)
    cut = data.draw(st.integers(0, rows))
    for part in (slice(0, cut), slice(cut, rows)):
        of_a = np.ascontiguousarray(a[:, part] if transposed[0] else a[part])
        if parts[part].size:
            run(way, of_a, b, parts[part], transposed)
    np.testing.assert_array_equal(parts, whole)


@every_way
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("dtype", [NARROW, WIDE])
def test_rows_may_be_parts_of_longer_ones(way, transpose_a, dtype):
    rng = np.random.default_rng(7)
    a, b = operands(rng, 21, 13, 40, (transpose_a, False))
    apart, beside = (encode(np.zeros((21, width)), dtype) for width in (40, 59))
    run(way, a, b, apart, (transpose_a, False))
    longer = np.full((a.shape[0], a.shape[1] + 5), 0x7FC0, np.uint16)  # NaN
    longer[:, 3:-2] = a
    run(way, longer[:, 3:-2], b, beside[:, 11:-8], (transpose_a, False))
    np.testing.assert_array_equal(beside[:, 11:-8], apart)
    assert not beside[:, :11].any()
    assert not beside[:, -8:].any()


@every_way
@pytest.mark.parametrize("transposed", [(x, y) for x in (False, True) for y in (False, True)])
@pytest.mark.parametrize("inner", [4, 5])
@pytest.mark.parametrize("relu", [False, True])
def test_nan_and_infinity_are_seen_where_they_belong(way, transposed, inner, relu):
    """In the last element of an odd sum, too, whose neighbour is the zero that fills up."""
    left, right = np.ones((9, inner)), np.ones((inner, 20))
    left[0, 1], left[8, -1], right[-1, 3] = np.nan, -np.inf, np.inf
    a, b = left.T if transposed[0] else left, right.T if transposed[1] else right
    c = np.zeros((9, 20), np.uint16)
    run(way, *(encode(np.ascontiguousarray(x), NARROW) for x in (a, b)), c, transposed, relu=relu)
    c = decode(c, NARROW)
    assert np.isnan(c[0]).all()
    assert (c[1:8, 3] == np.inf).all()
    assert (np.delete(c[1:8], 3, axis=1) == inner).all()
    assert (c[8] == (0 if relu else -np.inf)).all()


@every_way
def test_a_sum_of_many_is_rounded_once(way):
    """4096 ones and as many of 2⁻⁷: a sum in bfloat16 would not get beyond 256, or 4096."""
    a = np.concatenate([np.ones((3, 4096)), np.full((3, 4096), 2.0**-7)], axis=1)
    c = np.zeros((3, 17), np.uint16)
    run(way, encode(a, NARROW), encode(np.ones((8192, 17)), NARROW), c, (False, False))
    assert (decode(c, NARROW) == 4128).all()


@every_way
def test_products_are_those_of_pytorch(way):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    a, b = operands(rng, 37, 129, 53, (False, True))
    c = np.zeros((37, 53), np.uint16)
    run(way, a, b, c, (False, True))
    left, right = (torch.from_numpy(x.view(np.int16)).view(torch.bfloat16) for x in (a, b))
    theirs = (left @ right.T).float().numpy()
    ours = decode(c, NARROW)
    np.testing.assert_allclose(ours, theirs, rtol=2**-7, atol=1e-4)  # a neighbour at most
    assert (ours == theirs).mean() > 0.99
