"""Products of bfloat16 matrices by MKL, which multiplies with a processor's AMX where it has it.

MKL writes float32. A block of c that is bfloat16 is summed up beside it, gets its bias and ReLU
there, and is rounded once, as with tiles (gemm_bfloat16.py).
"""

from __future__ import annotations

from functools import cache
from typing import Any

from numba import carray

from gpubp.kernels.numba import compiled
from gpubp.kernels.numba.compiled import jit_as
from gpubp.kernels.numba.gemm_bfloat16 import BLOCK, SPAN, begin_block, end_block, wide_bias
from gpubp.kernels.numba.intrinsics import gemm_of_part, pointer
from gpubp.kernels.numba.tile import FROM_BIAS, FROM_C, ahead, scratch

_STACK_C = BLOCK * SPAN


@jit_as("gemm_bfloat16_mkl")
def multiply(
    function: int, a: Any, b: Any, c: Any, rows: int, inner: int, columns: int,
    transpose_a: bool, transpose_b: bool, start: int, bias: Any, relu: bool,
) -> None:  # fmt: skip
    """c = op(a) op(b) + what ``start`` says (see tile), at least 0 if ``relu``."""
    lda, ldb = rows if transpose_a else inner, inner if transpose_b else columns
    model = pointer(0, "float32")
    place_c, place_bias = scratch(model, _STACK_C), scratch(model, SPAN)
    for j in range(0, columns, SPAN):
        span = min(SPAN, columns - j)
        of_b = ahead(b, j * ldb if transpose_b else j)
        of_bias = wide_bias(ahead(bias, j), span if start == FROM_BIAS else 0, place_bias)
        for i in range(0, rows, BLOCK):
            height = min(BLOCK, rows - i)
            of_a, of_c = ahead(a, i if transpose_a else i * lda), ahead(c, i * columns + j)
            sums, ldc = begin_block(of_c, columns, height, span, start, place_c)
            gemm_of_part(
                function, of_a, of_b, sums, height, inner, span, lda, ldb, ldc,
                transpose_a, transpose_b, start == FROM_C,
            )  # fmt: skip
            if start == FROM_BIAS:
                _add_bias(sums, ldc, height, span, of_bias, relu)
            end_block(sums, height, span, of_c, columns)


@jit_as("add_bias_mkl")
def _add_bias(sums: Any, length: int, rows: int, columns: int, bias: Any, relu: bool) -> None:
    """Add the bias to rows of ``length``, and make what is below 0 that, but not NaN."""
    b = carray(bias, (columns,))
    for i in range(rows):
        row = carray(ahead(sums, i * length), (columns,))
        for j in range(columns):
            z = row[j] + b[j]
            row[j] = 0 if relu and z < 0 else z


_SOURCE = '''"""Products of bfloat16 by MKL, written by gpubp."""
from numba import cfunc
from gpubp.kernels.numba.compiled import ENTRY_FLAGS
from gpubp.kernels.numba.gemm_bfloat16_mkl import multiply
from gpubp.kernels.numba.intrinsics import pointer

@cfunc("void(CPointer(int64))", **ENTRY_FLAGS)
def entry(words):
    multiply(
        words[13],
        pointer(words[0], "bfloat16"), pointer(words[1], "bfloat16"), pointer(words[2], "{c}"),
        words[3], words[4], words[5], words[6] != 0, words[7] != 0,
        words[8], pointer(words[9], "{bias}"), words[10] != 0,
    )
'''


@cache
def address(c: str, bias: str) -> int:
    """Return the address of the program for dtypes of c and bias, compiling it if it never was."""
    source = _SOURCE.format(c=c, bias=bias)
    return compiled.compile_entry(f"gemm_bfloat16_mkl_{c}_{bias}", source)
