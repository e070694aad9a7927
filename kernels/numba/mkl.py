"""Where the BLAS routines of Intel's MKL are in memory, if it is installed.

Nothing is loaded before a product is to be computed with it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

_NAME = "libmkl_rt.so"
_SEQUENTIAL = 1
_ROUTINES = {"float32": "sgemm_", "float64": "dgemm_", "bfloat16": "gemm_bf16bf16f32_"}


@cache
def library() -> Path | None:
    """Return the file of MKL: that of the distribution ``mkl``, or one where conda puts it."""
    try:
        listed = metadata.distribution("mkl").files or []
    except metadata.PackageNotFoundError:
        listed = []
    found = [
        Path(os.path.realpath(file.locate())) for file in listed if file.name.startswith(_NAME)
    ]
    found += sorted(Path(sys.prefix, "lib").glob(f"{_NAME}*"))
    return next((path for path in found if path.is_file()), None)


@cache
def address(dtype: str) -> int:
    """Return the address of the Fortran gemm for matrices of a dtype."""
    return int(ctypes.cast(getattr(_loaded(), _ROUTINES[dtype]), ctypes.c_void_p).value or 0)


def is_loaded() -> bool:
    """Return whether :func:`address` was asked for one, and so the library is in the process."""
    return bool(_loaded.cache_info().currsize)


@cache
def _loaded() -> Any:
    """Return the library, loaded.

    The layer of threads is chosen once a process. That which MKL takes by itself ends the process
    where its OpenMP library is not found; gpubp needs none of its threads. So where nobody has
    loaded MKL yet nor named a layer, it is the one without threads.
    """
    path = library()
    assert path is not None  # asked for where it is installed
    named = "MKL_THREADING_LAYER" in os.environ or _by_others(path)
    mkl = ctypes.CDLL(str(path))
    if not named:
        mkl.MKL_Set_Threading_Layer(_SEQUENTIAL)
    return mkl


def _by_others(path: Path) -> bool:
    """Return whether the process has loaded the library already."""
    try:
        ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD)
    except OSError:
        return False
    return True
