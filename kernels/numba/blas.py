"""Where the BLAS routines of SciPy are in memory, and how many threads they may use.

SciPy exports its BLAS to Cython, so the routines have addresses that compiled code can call with
nothing in between.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any


@cache
def address(dtype: str) -> int:
    """Return the address of ``sgemm`` (float32) or ``dgemm`` (float64): Fortran, LP64."""
    from numba.extending import get_cython_function_address  # noqa: PLC0415

    routine = {"float32": "sgemm", "float64": "dgemm"}[dtype]
    return int(get_cython_function_address("scipy.linalg.cython_blas", routine))


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415

    address("float32")  # SciPy's BLAS must be loaded to be found
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS computes on the calling thread only.

    gpubp splits the minibatch over threads itself; BLAS threads under those would only compete.
    """
    limit: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limit
