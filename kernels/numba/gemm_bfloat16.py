"""Products of bfloat16 matrices out of tiles, with sums in float32.

Blocks of a and panels of b are laid side by side, which turns them into what tiles multiply: pairs
where the processor multiplies those (tile_bfloat16.py), else float32. A block of c that is bfloat16
is summed up in float32 beside it and rounded once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from numba import carray
from numba.extending import overload

from gpubp.kernels.numba import compiled
from gpubp.kernels.numba.bfloat16 import bfloat16
from gpubp.kernels.numba.compiled import jit_as
from gpubp.kernels.numba.gemm import panel_of, panels
from gpubp.kernels.numba.intrinsics import pointer
from gpubp.kernels.numba.tile import FROM_BIAS, FROM_C, REGISTER, ROWS, VECTORS, ahead, scratch
from gpubp.kernels.numba.tile_bfloat16 import SUITED_TO_PAIRS, Pairs, turn_pairs, zip_pairs

_LANES = REGISTER // 4
_PART = 384  # turns of a tile's loop, of which each is an element or a pair of the sums
BLOCK = 256  # rows of c
SPAN = 16 * VECTORS * _LANES  # columns of c
# What is laid may end a square, or a vector, behind what is there of it.
_STACK_A = BLOCK * _PART + (ROWS + 1) * _LANES
_STACK_B = VECTORS * _LANES * (_PART + _LANES)
_STACK_C = BLOCK * SPAN


@jit_as("lay_pairs")
def _lay_pairs(
    x: Any, length: int, along: bool, inner: int, columns: int, width: int, place: Any
) -> None:
    """Lay rows of ``width`` pairs, the last of an odd number and what is beyond x with zeros.

    ``along`` says that the rows of x, of ``length``, go along the sums.
    """
    for j in range(0, width, _LANES):
        for k in range(0, inner, 2 * _LANES if along else 2):
            target = ahead(place, k // 2 * width + j)
            if along:
                source = ahead(x, j * length + k)
                turn_pairs(source, length, columns - j, inner - k, target, width)
            else:
                zip_pairs(ahead(x, k * length + j), length, inner - k, columns - j, target)


@jit_as("lay_wide")
def _lay_wide(
    x: Any, length: int, along: bool, inner: int, columns: int, width: int, place: Any
) -> None:
    """Lay rows of ``width`` elements in float32, what is beyond x with zeros."""
    down, right = (1, length) if along else (length, 1)
    source = carray(x, (inner * length,))  # or as many columns; nobody looks at the length
    target = carray(place, (inner * width,))
    for k in range(inner):
        for j in range(width):
            target[k * width + j] = source[k * down + j * right] if j < columns else 0


def begin_block(c: Any, length: int, rows: int, columns: int, start: int, place: Any) -> Any:
    """Return where a block of c is summed up, and how far its rows are from each other there."""


@overload(begin_block, strict=False)
def _begin_block_of(c: Any, length: int, rows: int, columns: int, start: int, place: Any) -> Any:
    if c.dtype != bfloat16:
        return lambda c, length, rows, columns, start, place: (c, length)

    def beside(c: Any, length: int, rows: int, columns: int, start: int, place: Any) -> Any:
        if start == FROM_C:
            _convert(c, length, rows, columns, place, SPAN)
        return place, SPAN

    return beside


def end_block(sums: Any, rows: int, columns: int, c: Any, length: int) -> None:
    """Round a block to c, if that is where it belongs."""


@overload(end_block, strict=False)
def _end_block_of(sums: Any, rows: int, columns: int, c: Any, length: int) -> Any:
    if c.dtype != bfloat16:
        return lambda sums, rows, columns, c, length: None
    return lambda sums, rows, columns, c, length: _convert(sums, SPAN, rows, columns, c, length)


def wide_bias(bias: Any, columns: int, place: Any) -> Any:
    """Return a bias as float32."""


@overload(wide_bias, strict=False)
def _wide_bias_of(bias: Any, columns: int, place: Any) -> Any:
    if bias.dtype != bfloat16:
        return lambda bias, columns, place: bias

    def beside(bias: Any, columns: int, place: Any) -> Any:
        _convert(bias, columns, 1, columns, place, columns)
        return place

    return beside


@jit_as("convert_block")
def _convert(x: Any, length: int, rows: int, columns: int, y: Any, width: int) -> None:
    """y = x, a block out of rows of ``length`` to rows of ``width``."""
    for i in range(rows):
        source = carray(ahead(x, i * length), (columns,))
        target = carray(ahead(y, i * width), (columns,))
        for j in range(columns):
            target[j] = source[j]


def _gemm(name: str, depth: int, lay: Callable[..., None], multiply: Callable[..., None]) -> Any:
    """Return the product with ``depth`` elements of the sums to a turn of a tile's loop."""

    @jit_as(f"{name}_block")
    def block(
        a: Any, b: Any, c: Any, ldc: int, rows: int, inner: int, columns: int,
        lda: int, ldb: int, transpose_a: bool, transpose_b: bool,
        start: int, bias: Any, least: Any, lowest: Any, place_a: Any, place_b: Any,
    ) -> None:  # fmt: skip
        vectors = (columns + _LANES - 1) // _LANES
        panels = (vectors + VECTORS - 1) // VECTORS
        for k in range(0, inner, depth * _PART):
            part = min(depth * _PART, inner - k)
            turns = (part + depth - 1) // depth
            of_a = ahead(a, k * lda if transpose_a else k)
            for i in range(0, rows, ROWS):
                tile, count = ahead(of_a, i if transpose_a else i * lda), min(ROWS, rows - i)
                lay(tile, lda, not transpose_a, part, count, ROWS, ahead(place_a, i * turns))
            begin = start if k == 0 else FROM_C
            floor = least if k + part == inner else lowest
            for n in range(panels):
                first, last = vectors * n // panels, vectors * (n + 1) // panels
                j, width = first * _LANES, (last - first) * _LANES
                of_b = ahead(b, j * ldb + k if transpose_b else k * ldb + j)
                lay(of_b, ldb, transpose_b, part, columns - j, width, place_b)
                multiply(
                    last - first, place_a, ROWS * turns, 1, ROWS, ahead(c, j), ldc, rows,
                    place_b, width, turns, columns - j, begin, ahead(bias, j), floor,
                )  # fmt: skip

    @jit_as(name)
    def gemm(
        a: Any, b: Any, c: Any, rows: int, inner: int, columns: int,
        transpose_a: bool, transpose_b: bool, start: int, bias: Any, least: Any, lowest: Any,
        lda: int, ldc: int,
    ) -> None:  # fmt: skip
        """c = op(a) op(b) + what ``start`` says (see tile), at least ``least``.

        ``lda`` and ``ldc`` are how far the rows of a and c are from each other.
        """
        ldb = inner if transpose_b else columns
        model = pointer(0, "float32")
        place_a, place_b = scratch(model, _STACK_A), scratch(model, _STACK_B)
        place_c, place_bias = scratch(model, _STACK_C), scratch(model, SPAN)
        for j in range(0, columns, SPAN):
            span = min(SPAN, columns - j)
            of_b = ahead(b, j * ldb if transpose_b else j)
            of_bias = wide_bias(ahead(bias, j), span if start == FROM_BIAS else 0, place_bias)
            for i in range(0, rows, BLOCK):
                height = min(BLOCK, rows - i)
                of_a, of_c = ahead(a, i if transpose_a else i * lda), ahead(c, i * ldc + j)
                sums, width = begin_block(of_c, ldc, height, span, start, place_c)
                block(
                    of_a, of_b, sums, width, height, inner, span,
                    lda, ldb, transpose_a, transpose_b,
                    start, of_bias, least, lowest, place_a, place_b,
                )  # fmt: skip
                end_block(sums, height, span, of_c, ldc)

    return gemm


multiply_pairs = _gemm("gemm_pairs", 2, _lay_pairs, panels("pairs", Pairs))
multiply_wide = _gemm("gemm_wide", 1, _lay_wide, panel_of)

_SOURCE = '''"""Products of bfloat16, written by gpubp."""
import numpy as np
from numba import cfunc
from gpubp.kernels.numba.compiled import ENTRY_FLAGS
from gpubp.kernels.numba.gemm_bfloat16 import multiply_{way} as multiply
from gpubp.kernels.numba.intrinsics import pointer

LOWEST, ZERO = np.float32(-np.inf), np.float32(0)

@cfunc("void(CPointer(int64))", **ENTRY_FLAGS)
def entry(words):
    multiply(
        pointer(words[0], "bfloat16"), pointer(words[1], "bfloat16"), pointer(words[2], "{c}"),
        words[3], words[4], words[5], words[6] != 0, words[7] != 0,
        words[8], pointer(words[9], "{bias}"), ZERO if words[10] != 0 else LOWEST, LOWEST,
        words[11], words[12],
    )
'''


def address(c: str, bias: str) -> int:
    """Return the address of the program for dtypes of c and bias, compiling it if it never was."""
    return address_of("pairs" if SUITED_TO_PAIRS else "wide", c, bias)


@cache
def address_of(way: str, c: str, bias: str) -> int:
    """Return the address of the program that multiplies "pairs", or in float32, "wide"."""
    return compiled.compile_entry(
        f"gemm_bfloat16_{way}_{c}_{bias}", _SOURCE.format(c=c, bias=bias, way=way)
    )
