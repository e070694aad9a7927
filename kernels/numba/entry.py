"""Writes the C entry point of a kernel: from a row of int64 words to a call of the body on arrays.

The words come in the order of the contract: for each operand that is present its address and the
lengths that its view needs; then the scalars, a float as the bits of a float64; then,
for the matrix products, the addresses of the program of tiles and of BLAS. An operand of axes
``...`` is seen as one dimension, ``B ...`` as two; an absent optional operand reaches the body as
None, which Numba resolves when it compiles, so each combination is a variant of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from gpubp.errors import unknown_name
from gpubp.kernels.contract import Kernel, Operand, Shape, size
from gpubp.kernels.numba import blas, compiled, gemm
from gpubp.kernels.spec import kernel as contract

Number = float | int | bool

_TEMPLATE = '''"""Entry point of {name}, written by gpubp; Numba keeps its code beside it."""
from numba import carray, cfunc
from gpubp.kernels.numba.compiled import FLAGS
from gpubp.kernels.numba.intrinsics import float_of, pointer
from gpubp.kernels.numba.{module} import {name} as body

@cfunc("void(CPointer(int64))", cache=True, **FLAGS)
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
    def working_dtype(self) -> str:
        """The dtype of the "float" operands, "" where there are none."""
        declared = zip(contract(self.kernel).operands, self.dtypes, strict=True)
        return next((dtype for o, dtype in declared if o.dtype == "float" and dtype), "")


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
        module=kernel.module,
        arguments="\n".join(f"        {argument}," for argument in arguments),
    )


def words(
    kernel: Kernel,
    operands: Sequence[tuple[int, Shape] | None],
    scalars: Mapping[str, Number],
    dtype: str,
) -> list[int]:
    """Return the argument words of a call: ``operands`` as (address, shape) or None."""
    row: list[int] = []
    for declared, given in zip(kernel.operands, operands, strict=True):
        if given is not None:
            row += [given[0], *_view_shape(declared, given[1])]
    values = kernel.bind_scalars(scalars)
    for scalar in kernel.scalars:
        value = values[scalar.name]
        row.append(_bits(value) if scalar.kind == "float" else int(value))
    if is_product(kernel):
        row += _routines(kernel, operands, dtype)
    return row


def is_product(kernel: Kernel) -> bool:
    """Return whether a kernel is a product of matrices, of which one operand is named c."""
    return kernel.family == "matrix" and "c" in kernel.index


def _routines(
    kernel: Kernel, operands: Sequence[tuple[int, Shape] | None], dtype: str
) -> tuple[int, int]:
    """Return the addresses that a product takes: of the program of tiles, or 0, and of BLAS."""
    shapes = {o.name: given[1] for o, given in zip(kernel.operands, operands, strict=True) if given}
    tiles = 0 not in shapes["a"] and gemm.suited(dtype, shapes["c"][-1])
    return gemm.address(dtype) if tiles else 0, blas.address(dtype)


def _bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def _view_shape(operand: Operand, shape: Shape) -> Shape:
    """Fold the axes that ``...`` stands for into one."""
    if operand.axes[-1] != "...":
        return shape
    lead = len(operand.axes) - 1
    return (*shape[:lead], size(shape[lead:]))
