"""The element type bfloat16 for Numba: two bytes in memory, a float32 as soon as it is read.

All arithmetic on it is float32's. What is stored is rounded to the nearest, ties to even; a NaN
stays one. Only arrays have it: a value that was converted to it and not stored is not rounded.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import PrimitiveModel, register_default
from numba.core.typeconv import Conversion
from numba.core.typing import signature
from numba.extending import lower_builtin, lower_cast

I16, I32 = ir.IntType(16), ir.IntType(32)


class Bfloat16(types.Type):
    """The Numba type of the elements."""

    def __init__(self) -> None:
        super().__init__(name="bfloat16")

    def can_convert_to(self, typingctx: Any, other: Any) -> Any:
        """As float32 above all, so that it is that which operators and functions compute in."""
        return {types.float32: Conversion.promote, types.float64: Conversion.safe}.get(other)

    def can_convert_from(self, typingctx: Any, other: Any) -> Any:
        """From any number, on storing."""
        return Conversion.unsafe if isinstance(other, (types.Number, types.Boolean)) else None

    def unify(self, typingctx: Any, other: Any) -> Any:
        """With a number: what float32 would be."""
        return typingctx.unify_pairs(types.float32, other)


bfloat16 = Bfloat16()


@register_default(Bfloat16)
class _Model(PrimitiveModel):
    """A float32 whose lower half is left out where it is stored."""

    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.FloatType())

    def get_data_type(self) -> Any:
        return I16

    def as_data(self, builder: Any, value: Any) -> Any:
        # Integers, and not LLVM's own rounding: processors that have an instruction for it take
        # subnormal numbers for 0, and the same kernel is to give the same bits on all.
        bits = builder.bitcast(value, I32)
        high = builder.lshr(bits, I32(16))
        half = builder.add(builder.and_(high, I32(1)), I32(0x7FFF))
        rounded = builder.lshr(builder.add(bits, half), I32(16))
        nan = builder.fcmp_unordered("uno", value, value)
        return builder.trunc(builder.select(nan, builder.or_(high, I32(0x40)), rounded), I16)

    def from_data(self, builder: Any, value: Any) -> Any:
        bits = builder.shl(builder.zext(value, I32), I32(16))
        return builder.bitcast(bits, ir.FloatType())


@lower_cast(Bfloat16, types.Float)
def _widened(context: Any, builder: Any, kind: Any, target: Any, value: Any) -> Any:
    return context.cast(builder, value, types.float32, target)


@lower_cast(types.Number, Bfloat16)
@lower_cast(types.Boolean, Bfloat16)
def _narrowed(context: Any, builder: Any, kind: Any, target: Any, value: Any) -> Any:
    return value if kind == target else context.cast(builder, value, kind, types.float32)


@lower_builtin(operator.gt, Bfloat16, Bfloat16)  # for ``max``, which asks for it past the casts
def _greater(context: Any, builder: Any, kinds: Any, values: Any) -> Any:
    wide = signature(types.boolean, types.float32, types.float32)
    return context.get_function(operator.gt, wide)(builder, values)
