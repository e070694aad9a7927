"""Tiles of bfloat16: pairs of neighbours along the sum, which one instruction multiplies and adds.

A pair takes as much room as a float32 and is moved as one. What tile.py says then holds for pairs,
with half as many turns of the loop. The instruction (AVX512_BF16) takes subnormal numbers for 0.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gpubp.kernels.numba.tile import I32, I64, SUITED, Vectors, flipped

# Whether this processor has the instruction.
SUITED_TO_PAIRS = SUITED and bool(binding.get_host_cpu_features().get("avx512bf16"))


class _Bfloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat, for which llvmlite has no class."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Bfloat)

    def __hash__(self) -> int:
        return hash(_Bfloat)


class Pairs(Vectors):
    """Vectors of pairs and of their sums, both called float32."""

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        """Return x₀ y₀ + x₁ y₁ + z in float32."""
        pairs = ir.VectorType(_Bfloat(), 2 * self.lanes)
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(self.kind, [self.kind, pairs, pairs]),
            "llvm.x86.avx512bf16.dpbf16ps.512",
        )
        return self.builder.call(
            function, [z, *(self.builder.bitcast(operand, pairs) for operand in (x, y))]
        )


@intrinsic
def turn_pairs(
    typingctx: Any, source: Any, length: Any, rows: Any, columns: Any, target: Any, width: Any
) -> Any:
    """Write a square of pairs, transposed; pairs lie side by side in the rows of ``source``.

    The rows, of ``length``, have ``columns`` elements; what is beyond these, or below the last of
    the ``rows``, is taken for 0. The rows of ``target`` are ``width`` pairs apart.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, length, rows, columns, target, width = args
        vec = Pairs(context, builder, types.float32)
        half = Vectors(context, builder, types.uint16)
        mask, nothing = half.first(columns), ir.Constant(half.mask_kind, None)
        square = []
        for i in range(vec.lanes):
            there = builder.select(builder.icmp_signed("<", I64(i), rows), mask, nothing)
            line = half.load_masked(half.place(source, builder.mul(I64(i), length)), there)
            square.append(builder.bitcast(line, vec.kind))
        for i, line in enumerate(flipped(vec, square)):
            vec.store(line, vec.place(target, builder.mul(I64(i), width)))
        return context.get_dummy_value()

    i = types.int64
    return types.void(source, i, i, i, target, i), codegen


@intrinsic
def zip_pairs(
    typingctx: Any, source: Any, length: Any, rows: Any, columns: Any, target: Any
) -> Any:
    """Write a vector of pairs, each of an element and that below it in the next row of ``source``.

    The rows, of ``length``, have ``columns`` elements; what is beyond these, or below the last of
    the ``rows``, is taken for 0.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, length, rows, columns, target = args
        vec = Pairs(context, builder, types.float32)
        half = Vectors(context, builder, types.uint16, vec.lanes)
        wide = ir.VectorType(I32, vec.lanes)
        none = ir.Constant(half.mask_kind, None)
        mask = half.first(columns)
        below = builder.select(builder.icmp_signed(">", rows, I64(1)), mask, none)
        low, high = (
            builder.zext(half.load_masked(half.place(source, index), there), wide)
            for index, there in ((I64(0), mask), (length, below))
        )
        shift = ir.Constant(wide, [16] * vec.lanes)
        pairs = builder.or_(low, builder.shl(high, shift))
        vec.store(builder.bitcast(pairs, vec.kind), vec.place(target, I64(0)))
        return context.get_dummy_value()

    i = types.int64
    return types.void(source, i, i, i, target), codegen
