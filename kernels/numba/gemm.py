"""Matrix products out of tiles: what is read again and again is first laid side by side.

The columns of c are taken a panel at a time, up to three vectors of them; the rows in blocks, so
that what of a is read for every panel stays in the second-level cache; and sums in parts, so that
the panel of b does. A panel is copied where b is read transposed, where it ends within a vector, or
where its rows lie so far apart that each is on a page of its own.

It is compiled once for each dtype, as a program that the kernels of products call by address.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import carray, njit

from gpubp.kernels.numba import compiled
from gpubp.kernels.numba.compiled import FLAGS, jit_as
from gpubp.kernels.numba.intrinsics import call, pointer
from gpubp.kernels.numba.tile import (
    FROM_C,
    REGISTER,
    ROWS,
    SUITED,
    VECTORS,
    Vectors,
    ahead,
    copy,
    scratch,
    tile,
    transpose,
)  # fmt: skip

_PART = 512  # of the sums
_BLOCK = 256  # of the rows of c
_FAR_A, _FAR_B = 4096, 2048  # bytes of a row of a or b from which on it is copied
_OFTEN = 4  # panels of c, at least, for which a's copy is used
# Elements of the copies; a square that is transposed ends behind what is there of it.
_STACK_A = _BLOCK * _PART + (ROWS + 1) * REGISTER // 4
_STACK_B = VECTORS * REGISTER // 4 * (_PART + REGISTER // 4)
_FILLED = 0.6  # of the vectors that c's columns take, at least: else BLAS is faster


def suited(dtype: str, columns: int) -> bool:
    """Return whether tiles are faster than BLAS for a product of so many columns.

    For bfloat16, for which there is no BLAS, they are all there is.
    """
    if dtype == "bfloat16":
        return True
    lanes = _lanes(dtype)
    return SUITED and columns >= _FILLED * lanes * -(-columns // lanes)


def _panel(name: str, vectors: int, kind: type[Vectors]) -> Callable[..., None]:
    """Return the function that computes a panel of some vectors of columns, tile by tile."""
    of_most, of_four, of_two, of_one = (tile(n, vectors, kind) for n in (ROWS, 4, 2, 1))

    @jit_as(f"{name}_of_{vectors}")
    def panel(
        a: Any, tall: int, down: int, along: int, c: Any, ldc: int, rows: int, *rest: Any
    ) -> None:
        """``tall`` is how far a's tiles are from each other."""
        for _ in range(rows // ROWS):
            of_most(a, down, along, c, ldc, *rest)
            a, c = ahead(a, tall), ahead(c, ROWS * ldc)
        left = rows % ROWS
        if left >= 4:
            of_four(a, down, along, c, ldc, *rest)
            a, c = ahead(a, 4 * down), ahead(c, 4 * ldc)
        if left % 4 >= 2:
            of_two(a, down, along, c, ldc, *rest)
            a, c = ahead(a, 2 * down), ahead(c, 2 * ldc)
        if left % 2 == 1:
            of_one(a, down, along, c, ldc, *rest)

    return panel


def panels(name: str, kind: type[Vectors]) -> Callable[..., None]:
    """Return the function that computes a panel of one to three vectors of a kind."""
    of_one, of_two, of_three = (_panel(name, vectors, kind) for vectors in (1, 2, 3))

    @jit_as(f"{name}_of")
    def panel_of(vectors: int, *rest: Any) -> None:
        if vectors == 3:
            of_three(*rest)
        elif vectors == 2:
            of_two(*rest)
        else:
            of_one(*rest)

    return panel_of


panel_of = panels("panel", Vectors)


@njit(**FLAGS)
def _lay(
    b: Any, ldb: int, transposed: bool, inner: int, columns: int, width: int, lanes: int, place: Any
) -> None:
    """Copy a panel of b, or a tile of aᵀ, with rows of ``width``, filled up with zeros."""
    for j in range(0, width, lanes):
        if transposed:
            for k in range(0, inner, lanes):
                source, target = ahead(b, j * ldb + k), ahead(place, k * width + j)
                transpose(source, ldb, columns - j, inner - k, target, width)
        else:
            for k in range(inner):
                copy(ahead(b, k * ldb + j), columns - j, ahead(place, k * width + j))


@njit(**FLAGS)
def gemm(
    a: Any, b: Any, c: Any, rows: int, inner: int, columns: int, lanes: int,
    transpose_a: bool, transpose_b: bool, start: int, bias: Any, least: Any, lowest: Any,
    lda: int, ldc: int,
) -> None:  # fmt: skip
    """c = op(a) op(b) + what ``start`` says (see tile), at least ``least``.

    ``lda`` and ``ldc`` are how far the rows of a and c are from each other.
    """
    ldb = inner if transpose_b else columns
    down_a, along_a = (1, lda) if transpose_a else (lda, 1)
    place_a, place_b = scratch(a, _STACK_A), scratch(b, _STACK_B)
    vectors = (columns + lanes - 1) // lanes
    panels = (vectors + VECTORS - 1) // VECTORS
    far_a = not transpose_a and lda * REGISTER // lanes >= _FAR_A and panels >= _OFTEN
    far_b = ldb * REGISTER // lanes >= _FAR_B
    for k in range(0, inner, _PART):
        part = min(_PART, inner - k)
        begin = start if k == 0 else FROM_C
        floor = least if k + part == inner else lowest
        for i in range(0, rows, _BLOCK):
            block = min(_BLOCK, rows - i)
            of_a, down, along = ahead(a, i * down_a + k * along_a), down_a, along_a
            tall = ROWS * down
            if far_a:
                for first in range(0, block, ROWS):
                    target, there = ahead(place_a, first * part), min(ROWS, block - first)
                    _lay(ahead(of_a, first * lda), lda, True, part, there, ROWS, lanes, target)
                of_a, tall, down, along = place_a, ROWS * part, 1, ROWS
            for n in range(panels):
                first, last = vectors * n // panels, vectors * (n + 1) // panels
                count, j, step = last - first, first * lanes, ldb
                of_b = ahead(b, j * ldb + k if transpose_b else k * ldb + j)
                if transpose_b or far_b or last * lanes > columns:
                    step = count * lanes
                    _lay(of_b, ldb, transpose_b, part, columns - j, step, lanes, place_b)
                    of_b = place_b
                panel_of(
                    count, of_a, tall, down, along, ahead(c, i * ldc + j), ldc, block,
                    of_b, step, part, columns - j, begin, ahead(bias, j), floor,
                )  # fmt: skip


_SOURCE = '''"""Products of {dtype} matrices, written by gpubp."""
import numpy as np
from numba import cfunc
from gpubp.kernels.numba.compiled import ENTRY_FLAGS
from gpubp.kernels.numba.gemm import gemm
from gpubp.kernels.numba.intrinsics import pointer

LOWEST, ZERO = np.{dtype}(-np.inf), np.{dtype}(0)

@cfunc("void(CPointer(int64))", **ENTRY_FLAGS)
def entry(words):
    gemm(
        pointer(words[0], "{dtype}"), pointer(words[1], "{dtype}"), pointer(words[2], "{dtype}"),
        words[3], words[4], words[5], {lanes}, words[6] != 0, words[7] != 0,
        words[8], pointer(words[9], "{dtype}"), ZERO if words[10] != 0 else LOWEST, LOWEST,
        words[11], words[12],
    )
'''


@cache
def address(dtype: str) -> int:
    """Return the address of the program for a dtype, compiling it if it never was."""
    return compiled.compile_entry(*entry(dtype))


def entry(dtype: str) -> tuple[str, str]:
    """Return the name and source of the program for a dtype."""
    return f"gemm_{dtype}", _SOURCE.format(dtype=dtype, lanes=_lanes(dtype))


def _lanes(dtype: str) -> int:
    return REGISTER // np.dtype(dtype).itemsize


@njit(**FLAGS)
def product(
    program: int, library: int, a: Any, b: Any, c: Any, transpose_a: bool, transpose_b: bool,
    start: int, bias: Any, relu: bool,
) -> None:  # fmt: skip
    """c = op(a) op(b) + what ``start`` says, by the program at an address; ``relu``: at least 0.

    ``library`` is the address of a routine for a program that needs one.
    """
    place = scratch(pointer(program, "int64"), 16)
    words = carray(place, (16,))
    words[0], words[1], words[2] = a.ctypes.data, b.ctypes.data, c.ctypes.data
    words[3], words[5] = c.shape
    words[4] = a.shape[0] if transpose_a else a.shape[1]
    words[6], words[7], words[8] = transpose_a, transpose_b, start
    words[9], words[10] = bias.ctypes.data, relu
    words[11], words[12], words[13] = a.shape[1], c.shape[1], library
    call(program, place)
