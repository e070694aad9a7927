"""The floor: the matrix products of a step and nothing else, called from compiled code.

OpenBLAS as SciPy brings it, on one thread, on its own threads, and with the rows of the minibatch
split over threads that each use it alone.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterable
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

_sgemm = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(
    get_cython_function_address("scipy.linalg.cython_blas", "sgemm")
)


@njit(nogil=True)
def _run(table: NDArray[np.int64], steps: int) -> None:
    """Call sgemm with each row of addresses."""
    for _ in range(steps):
        for i in range(table.shape[0]):
            r = table[i]
            _sgemm(
                r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12]
            )  # fmt: skip


class Products(Contender):
    """All rows in one product."""

    def __init__(self, case: Case, threads: int | None) -> None:
        super().__init__(case, threads)
        self.memory: list[Any] = []  # what the addresses in the tables point to
        self.tables = self._tables()
        threadpool_limits(self._blas_threads(), user_api="blas")
        for table in self.tables:
            _run(table, 1)

    def train(self, epochs: int, shuffle: bool) -> float:
        """Multiply."""
        steps = epochs * self.case.steps
        start = time.perf_counter()
        _run(self.tables[0], steps)
        return time.perf_counter() - start

    def loss(self) -> None:
        """Return None: nothing is learned."""
        return

    def _tables(self) -> list[NDArray[np.int64]]:
        return [self._table(self.case.products(self.case.batch))]

    def _blas_threads(self) -> int | None:
        return self.threads

    def _table(self, products: Iterable[Product]) -> NDArray[np.int64]:
        """Return the addresses of sgemm's arguments for each product."""
        return np.array([[self._address(v) for v in _arguments(p)] for p in products])

    def _address(self, value: Any) -> int:
        self.memory.append(value)
        return int(value.ctypes.data)


class Split(Products):
    """A thread for each share of the rows; nobody waits for anybody, so no step can be faster."""

    def __init__(self, case: Case, threads: int | None) -> None:
        self.shares = threads or len(os.sched_getaffinity(0))
        super().__init__(case, threads)
        self.pool = ThreadPoolExecutor(self.shares)

    def train(self, epochs: int, shuffle: bool) -> float:
        """Multiply."""
        steps = epochs * self.case.steps
        start = time.perf_counter()
        list(self.pool.map(lambda table: _run(table, steps), self.tables))
        return time.perf_counter() - start

    def _tables(self) -> list[NDArray[np.int64]]:
        batch, shares = self.case.batch, self.shares
        bounds = [batch * share // shares for share in range(shares + 1)]
        return [self._table(self.case.products(stop - start)) for start, stop in pairwise(bounds)]

    def _blas_threads(self) -> int:
        return 1


def _arguments(p: Product) -> list[NDArray[Any]]:
    """Return sgemm's arguments, each an array, for the row-major product.

    BLAS is column-major, where the same memory holds the transposes: cᵀ = op(b)ᵀ op(a)ᵀ.
    """
    random = np.random.default_rng(4)
    a, b = (
        random.standard_normal(size, dtype=np.float32)
        for size in (p.rows * p.inner, p.inner * p.columns)
    )
    letters = [np.array(b"T" if t else b"N") for t in (p.transpose_b, p.transpose_a)]
    sizes = [np.array(n, np.int32) for n in (p.columns, p.rows, p.inner)]
    lda = np.array(p.rows if p.transpose_a else p.inner, np.int32)
    ldb = np.array(p.inner if p.transpose_b else p.columns, np.int32)
    one, zero = np.array(1, np.float32), np.array(0, np.float32)
    c = np.zeros(p.rows * p.columns, np.float32)
    return [*letters, *sizes, one, b, ldb, a, lda, zero, c, np.array(p.columns, np.int32)]
