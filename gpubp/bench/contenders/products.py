"""The floor's matrix products: those of a step and nothing else, called from compiled code.

By a BLAS that is here, OpenBLAS as SciPy brings it or MKL: on one thread, on its own threads, and
with the rows of the minibatch split over threads that each use it alone.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit
from numba.extending import get_cython_function_address
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from gpubp.bench.cases import Case, Product
from gpubp.bench.contenders.base import Contender
from gpubp.kernels import bfloat16
from gpubp.kernels.numba import mkl

Table = NDArray[np.int64]

_ROUTINES = {"fp32": "sgemm", "fp64": "dgemm"}
_ROW_MAJOR, _PLAIN, _TRANSPOSED = 101, 111, 112  # of CBLAS


class Products(Contender):
    """All rows in one product; ``library`` is "scipy" or "mkl"."""

    def __init__(self, case: Case, threads: int | None, library: str = "scipy") -> None:
        super().__init__(case, threads)
        self.memory: list[Any] = []  # what the addresses in the tables point to
        narrow = case.precision == "bf16"
        self._row = self._narrow_row if narrow else self._wide_row
        self.run = _narrow_runner() if narrow else _wide_runner(library, _ROUTINES[case.precision])
        self.tables = self._tables()
        threadpool_limits(self._blas_threads(), user_api="blas")
        for table in self.tables:
            self.run(table, 1)

    def train(self, epochs: int, shuffle: bool) -> float:
        """Multiply."""
        steps = epochs * self.case.steps
        start = time.perf_counter()
        self.run(self.tables[0], steps)
        return time.perf_counter() - start

    def loss(self) -> None:
        """Return None: nothing is learned."""
        return

    def _tables(self) -> list[Table]:
        return [self._table(self.case.products(self.case.batch))]

    def _blas_threads(self) -> int | None:
        return self.threads

    def _table(self, products: Iterable[Product]) -> Table:
        """Return the arguments of each product."""
        return np.array([self._row(p) for p in products], np.int64)

    def _wide_row(self, p: Product) -> list[int]:
        """Return the addresses of the routine's arguments for the row-major product.

        BLAS is column-major, where the same memory holds the transposes: cᵀ = op(b)ᵀ op(a)ᵀ.
        """
        dtype = np.float64 if self.case.precision == "fp64" else np.float32
        a, b, c = (values.astype(dtype) for values in _arrays(p))
        letters = [np.array(b"T" if t else b"N") for t in (p.transpose_b, p.transpose_a)]
        sizes = [np.array(n, np.int32) for n in (p.columns, p.rows, p.inner)]
        lda, ldb, ldc = (np.array(n, np.int32) for n in _strides(p))
        one, zero = np.array(1, dtype), np.array(0, dtype)
        return [self._at(v) for v in [*letters, *sizes, one, b, ldb, a, lda, zero, c, ldc]]

    def _narrow_row(self, p: Product) -> list[int]:
        """Return CBLAS's arguments, bfloat16 in and float32 out, but for those always the same."""
        a, b, c = _arrays(p)
        lda, ldb, ldc = _strides(p)
        turned = [_TRANSPOSED if t else _PLAIN for t in (p.transpose_a, p.transpose_b)]
        at_a, at_b = (self._at(bfloat16.from_float32(values)) for values in (a, b))
        return [*turned, p.rows, p.columns, p.inner, at_a, lda, at_b, ldb, self._at(c), ldc]

    def _at(self, value: NDArray[Any]) -> int:
        """Return the address of an array that is kept."""
        self.memory.append(value)
        return int(value.ctypes.data)


class Split(Products):
    """A thread for each share of the rows; nobody waits for anybody, so no step can be faster."""

    def __init__(self, case: Case, threads: int | None, library: str = "scipy") -> None:
        self.shares = threads or len(os.sched_getaffinity(0))
        super().__init__(case, threads, library)
        self.pool = ThreadPoolExecutor(self.shares)

    def train(self, epochs: int, shuffle: bool) -> float:
        """Multiply."""
        steps = epochs * self.case.steps
        start = time.perf_counter()
        list(self.pool.map(lambda table: self.run(table, steps), self.tables))
        return time.perf_counter() - start

    def _tables(self) -> list[Table]:
        batch, shares = self.case.batch, self.shares
        bounds = [batch * share // shares for share in range(shares + 1)]
        return [self._table(self.case.products(stop - start)) for start, stop in pairwise(bounds)]

    def _blas_threads(self) -> int:
        return 1


def _arrays(p: Product) -> tuple[NDArray[np.float32], ...]:
    random = np.random.default_rng(4)
    a, b = (
        random.standard_normal(size, dtype=np.float32)
        for size in (p.rows * p.inner, p.inner * p.columns)
    )
    return a, b, np.zeros(p.rows * p.columns, np.float32)


def _strides(p: Product) -> tuple[int, int, int]:
    """Return the leading dimensions of a, b and c, row-major."""
    return (
        p.rows if p.transpose_a else p.inner,
        p.inner if p.transpose_b else p.columns,
        p.columns,
    )


def _wide_runner(library: str, routine: str) -> Callable[[Table, int], None]:
    """Return what calls a Fortran routine with each row of addresses."""
    if library == "mkl":
        place = ctypes.cast(getattr(_mkl(), f"{routine}_"), ctypes.c_void_p).value or 0
    else:
        place = get_cython_function_address("scipy.linalg.cython_blas", routine)
    gemm = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(place)

    @njit(nogil=True)
    def run(table: Table, steps: int) -> None:
        for _ in range(steps):
            for i in range(table.shape[0]):
                r = table[i]
                gemm(
                    r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12]
                )  # fmt: skip

    made: Callable[[Table, int], None] = run
    return made


def _narrow_runner() -> Callable[[Table, int], None]:
    """Return what calls MKL's product of bfloat16, which sums in float32, with each row."""
    number, real, at = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    gemm = _mkl().cblas_gemm_bf16bf16f32
    gemm.restype = None
    gemm.argtypes = [*[number] * 6, real, at, number, at, number, real, at, number]

    @njit(nogil=True)
    def run(table: Table, steps: int) -> None:
        for _ in range(steps):
            for i in range(table.shape[0]):
                r = table[i]
                gemm(
                    _ROW_MAJOR, r[0], r[1], r[2], r[3], r[4],
                    1.0, r[5], r[6], r[7], r[8], 0.0, r[9], r[10],
                )  # fmt: skip

    made: Callable[[Table, int], None] = run
    return made


def _mkl() -> Any:
    """Return MKL with the threads of its own, which gpubp itself does not use."""
    path = mkl.library()
    assert path is not None  # who needs it is timed only where it is installed
    # Beside it, and of another package, which MKL looks for by name and not there.
    ctypes.CDLL(str(path.parent / "libiomp5.so"), ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(path))
