"""Runs one Numba kernel on NumPy arrays: the way of ``gpubp.ops``, of the tests and of shuffles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.errors import OperandError
from gpubp.kernels import bfloat16
from gpubp.kernels.contract import Shape, dtype_name
from gpubp.kernels.numba import compiled, entry
from gpubp.kernels.spec import kernel as contract


def run(
    name: str,
    operands: Sequence[NDArray[Any] | None],
    scalars: Mapping[str, entry.Number] | None = None,
) -> None:
    """Run a kernel on C-contiguous NumPy arrays, outputs last, as its contract lists them.

    Raises:
        OperandError: shapes, dtypes or scalars break the contract, or an array's layout.
    """
    bound(name, operands, scalars)()


def bound(
    name: str,
    operands: Sequence[NDArray[Any] | None],
    scalars: Mapping[str, entry.Number] | None = None,
) -> Callable[[], None]:
    """Return the call of a kernel on these arrays, to be made as often as one likes.

    Raises:
        OperandError: as for :func:`run`.
    """
    kernel = contract(name)
    forms = tuple(None if a is None else (a.shape, dtype_name(a.dtype)) for a in operands)
    function, template = _checked(name, forms, tuple(kernel.bind_scalars(scalars or {}).items()))
    words, place = template.copy(), 0
    for declared, array in zip(kernel.operands, operands, strict=True):
        if array is None:
            continue
        if not (array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative):
            raise OperandError(
                f"{name}: operand {declared.name!r} is not C-contiguous, aligned and of native "
                f"byte order, which a compiled kernel needs; pass numpy.require(..., "
                f"numpy.{array.dtype.name}, 'CA') of it"
            )
        words[place] = array.ctypes.data
        place += 1 + len(declared.axes)
    address = words.ctypes.data

    def call(_: object = (words, operands)) -> None:  # which must not go before it
        function(address)

    return call


@lru_cache(maxsize=4096)
def _checked(
    name: str,
    forms: tuple[tuple[Shape, str] | None, ...],
    scalars: tuple[tuple[str, entry.Number], ...],
) -> tuple[compiled.Function, NDArray[np.int64]]:
    """Return the code of a call and its words but for the addresses.

    To find them takes longer than most calls.

    ``forms`` are the operands' shapes and dtypes.

    Raises:
        OperandError: they break the contract.
    """
    kernel = contract(name)
    shown = [
        None if form is None else bfloat16.seen(declared, bfloat16.Form(*form))
        for declared, form in zip(kernel.operands, forms, strict=True)
    ]
    kernel.bind(shown, dict(scalars))
    variant = entry.Variant(name, tuple(None if s is None else dtype_name(s.dtype) for s in shown))
    places = [None if form is None else (0, form[0]) for form in forms]
    words = np.array(entry.words(variant, places, dict(scalars)), np.int64)
    return compiled.c_function(entry.address(variant)), words
