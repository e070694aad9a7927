"""Writes the C entry point of a kernel: from a row of int64 words to a call of the body on arrays.

The words come in the order of the contract: for each operand that is present its address and the
lengths that its view needs; then the scalars, a float as the bits of a float64; then, for the
matrix products, the addresses of a program, such as that of tiles, and of BLAS, 0 where it is not
needed: the routine of a product is "tiles", "blas" (SciPy's) or "mkl". An operand of axes ``...``
is seen as one dimension, ``B ...`` as two; an absent optional operand reaches the body as None,
which Numba resolves when it compiles, so each combination is a variant of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from gpubp.errors import unknown_name
from gpubp.kernels.contract import Kernel, Operand, Shape, size
from gpubp.kernels.numba import (
    blas,
    compiled,
    gemm,
    gemm_bfloat16,
    gemm_bfloat16_mkl,
    mkl,
    rows_bfloat16,
)
from gpubp.kernels.spec import kernel as contract

Number = float | int | bool

_TEMPLATE = '''"""Entry point of {name}, written by gpubp."""
from numba import carray, cfunc
from gpubp.kernels.numba.compiled import ENTRY_FLAGS
from gpubp.kernels.numba.intrinsics import float_of, pointer
from gpubp.kernels.numba.{module} import {name} as body

@cfunc("void(CPointer(int64))", **ENTRY_FLAGS)
def entry(args):
    body(
{arguments}
    )
'''


@dataclass(frozen=True)
class Variant:
    """A kernel with what its machine code depends on: a dtype for each operand, None if absent."""

    kernel: str
    dtypes: tuple[str | None, ...]

    @property
    def name(self) -> str:
        """A name that is a valid file and module name."""
        return "_".join([self.kernel, *(dtype or "none" for dtype in self.dtypes)])

    @property
    def named(self) -> dict[str, str | None]:
        """The dtypes by their operands' names."""
        names = (operand.name for operand in contract(self.kernel).operands)
        return dict(zip(names, self.dtypes, strict=True))


def implements(name: str) -> bool:
    """Return whether there is a Numba version of a kernel."""
    module = import_module(f"gpubp.kernels.numba.{contract(name).module}")
    return hasattr(module, name)


@cache
def address(variant: Variant) -> int:
    """Return the address of a variant's entry point, compiling it if it never was.

    Raises:
        InputError: there is no kernel of that name.
    """
    kernel = contract(variant.kernel)
    if not implements(kernel.name):
        raise unknown_name("Numba kernel", kernel.name, ())
    return compiled.compile_entry(variant.name, source(variant))


def source(variant: Variant) -> str:
    """Return the Python source of a variant's entry point."""
    kernel = contract(variant.kernel)
    arguments, word = [], 0
    for operand, dtype in zip(kernel.operands, variant.dtypes, strict=True):
        if dtype is None:
            arguments.append("None")
            continue
        rank = len(operand.axes)
        lengths = "".join(f"args[{word + 1 + axis}], " for axis in range(rank))
        arguments.append(f'carray(pointer(args[{word}], "{dtype}"), ({lengths}))')
        word += 1 + rank
    for scalar in kernel.scalars:
        form = {"float": "float_of(args[{}])", "int": "args[{}]", "bool": "args[{}] != 0"}
        arguments.append(form[scalar.kind].format(word))
        word += 1
    if is_product(kernel):
        arguments += [f"args[{word}]", f"args[{word + 1}]"]
    return _TEMPLATE.format(
        name=kernel.name,
        module=_module(variant),
        arguments="\n".join(f"        {argument}," for argument in arguments),
    )


def _module(variant: Variant) -> str:
    """Return the name of the module that has a variant's body."""
    kernel = contract(variant.kernel)
    output = variant.named[kernel.outputs[-1].name]
    apart = output == "bfloat16" and hasattr(rows_bfloat16, kernel.name)
    return "rows_bfloat16" if apart else kernel.module


def words(
    variant: Variant,
    operands: Sequence[tuple[int, Shape] | None],
    scalars: Mapping[str, Number],
    routine: str = "",
) -> list[int]:
    """Return the argument words of a call: ``operands`` as (address, shape) or None.

    ``routine`` is that of a product, by default the usual one.
    """
    kernel = contract(variant.kernel)
    row: list[int] = []
    for declared, given in zip(kernel.operands, operands, strict=True):
        if given is not None:
            row += [given[0], *_view_shape(declared, given[1])]
    values = kernel.bind_scalars(scalars)
    for scalar in kernel.scalars:
        value = values[scalar.name]
        row.append(_bits(value) if scalar.kind == "float" else int(value))
    if is_product(kernel):
        row += _addresses(variant, operands, routine)
    return row


def is_product(kernel: Kernel) -> bool:
    """Return whether a kernel is a product of matrices, of which one operand is named c."""
    return kernel.family == "matrix" and "c" in kernel.index


def routines(dtype: str) -> tuple[str, ...]:
    """Return the routines that there are for products of a dtype, MKL's if it is installed."""
    blas, intel = () if dtype == "bfloat16" else ("blas",), ("mkl",) if mkl.library() else ()
    return ("tiles", *blas, *intel)


def usual_routine(dtype: str, columns: int) -> str:
    """Return the routine for a product of so many columns where nothing was measured."""
    return "tiles" if gemm.suited(dtype, columns) else "blas"


def _addresses(
    variant: Variant, operands: Sequence[tuple[int, Shape] | None], routine: str
) -> tuple[int, int]:
    """Return the addresses that a product takes: of the program or 0, and of BLAS or 0."""
    dtypes = variant.named
    shapes = {name: given[1] for name, given in zip(dtypes, operands, strict=True) if given}
    a, c = dtypes["a"], dtypes["c"]
    assert a is not None  # not optional in any contract
    assert c is not None
    if 0 in shapes["a"]:  # nothing to add up: none is called
        return 0, 0
    routine = routine or usual_routine(a, shapes["c"][-1])
    if a == "bfloat16":
        bias = dtypes.get("bias") or c
        if routine == "tiles":
            return gemm_bfloat16.address(c, bias), 0
        return gemm_bfloat16_mkl.address(c, bias), mkl.address(a)
    if routine == "tiles":
        return gemm.address(a), 0
    return 0, (mkl if routine == "mkl" else blas).address(a)


def _bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def _view_shape(operand: Operand, shape: Shape) -> Shape:
    """Fold the axes that ``...`` stands for into one."""
    if operand.axes[-1] != "...":
        return shape
    lead = len(operand.axes) - 1
    return (*shape[:lead], size(shape[lead:]))
