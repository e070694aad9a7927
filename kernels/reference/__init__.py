"""Reference kernels: every kernel once, written against the array namespace and nothing else.

They run on NumPy, CuPy and any other library of the array-API standard whose arrays can be
written to, on the device where the operands are, without reading a value back to the host (the
one exception says so). In float64 they are the oracle of every faster version. They may use
temporaries; results that are not finite are results like any other, so a caller that runs them
on NumPy switches its floating-point warnings off.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module

from gpubp.kernels.spec import kernel


@cache
def function(name: str) -> Callable[..., None]:
    """Return the reference of a kernel: operands in the contract's order, scalars by keyword.

    Raises:
        InputError: there is no kernel of that name.
    """
    contract = kernel(name)
    module = import_module(f"{__name__}.{contract.module}")
    reference: Callable[..., None] = getattr(module, contract.name)
    return reference
