"""Where the BLAS routines of SciPy are in memory, and how many threads they may use.

SciPy exports its BLAS to Cython, so the routines have addresses that compiled code can call with
nothing in between.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from gpubp.kernels.blas_threads import limited, loaded
from gpubp.kernels.numba import mkl


@cache
def address(dtype: str) -> int:
    """Return the address of ``sgemm`` (float32) or ``dgemm`` (float64): Fortran, LP64."""
    from numba.extending import get_cython_function_address  # noqa: PLC0415

    routine = {"float32": "sgemm", "float64": "dgemm"}[dtype]
    return int(get_cython_function_address("scipy.linalg.cython_blas", routine))


@cache
def libraries() -> str:
    """Return which libraries compute products here; another text means other code.

    MKL is told apart by the size of its file, because to ask it one would have to load it.
    """
    import scipy  # noqa: PLC0415

    path = mkl.library()
    return f"SciPy {scipy.__version__}, " + (
        "no MKL" if path is None else f"{path.name} of {path.stat().st_size} bytes"
    )


@cache
def _loaded(with_mkl: bool) -> list[Any]:
    """Return the libraries that are loaded by the time that this is called.

    NumPy's own copy, which its wheels have and nobody else calls, is not among them.
    """
    address("float32")  # loads SciPy's
    return [library for library in loaded() if "numpy.libs" not in library.filepath]


def one_thread() -> AbstractContextManager[None]:
    """Return a context in which BLAS computes on the calling thread only, MKL too if it is loaded.

    gpubp splits the minibatch over threads itself; BLAS threads under those would only compete.
    """
    return limited(_loaded(mkl.is_loaded()), 1)
