"""What a device can do at most, measured: matrix products, copies, calls one after the other.

A roof is the best of several rounds, not their median: whatever disturbs the machine makes it look
lower than it is, and nothing makes it look higher.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import scipy.linalg.blas
from threadpoolctl import threadpool_limits

from gpubp import backends, devices
from gpubp.bench import phases
from gpubp.bench.cases import Case
from gpubp.bench.contenders import ENTRIES
from gpubp.bench.contenders.ours import Ours, make_trainer
from gpubp.kernels import bfloat16
from gpubp.kernels.cuda.driver import Gemm

Work = Callable[[], object]

_ROUND_SECONDS = 0.02


class Roofs:
    """Measurements on the CPU.

    Args:
        case: whose device and precision is measured.
        rounds: of each, of which the best counts.
        cores: how many are at work; None is all.
    """

    # Of the square products: a small cache may like one better.
    EDGES: tuple[int, ...] = (128, 256, 512, 1024)
    # Bytes of an array that is copied.
    COPIES: tuple[int, ...] = tuple(1 << exponent for exponent in (16, 18, 20, 22, 24, 26))

    def __init__(self, case: Case, rounds: int, cores: int | None = None) -> None:
        self.case, self.rounds = case, rounds
        self.cores = cores or devices.cores()

    def all(self) -> list[dict[str, Any]]:
        """Return all roofs that concern the case's device and precision."""
        precision = self.case.precision
        gemm = max(self.gemm(edge, precision) for edge in self.EDGES)
        found: list[tuple[str, float, str, dict[str, Any]]] = [
            ("gemm", gemm, "FLOP/s", {"precision": precision}),
            *(("copy", self.copy(size), "B/s", {"bytes": size}) for size in self.COPIES),
            ("call", self.call(), "s", {}),
        ]
        return [
            {
                "device": self.case.device, "kind": kind, "precision": None,
                "value": value, "unit": unit, **details,
            }
            for kind, value, unit, details in found
        ]  # fmt: skip

    def gemm(self, edge: int, precision: str) -> float:
        """Return the operations a second of a square product a core, all cores together.

        By the BLAS of NumPy, that of SciPy, or what gpubp multiplies with.
        """
        if precision == "bf16":
            return self._narrow_gemm(edge)
        dtype = np.float64 if precision == "fp64" else np.float32
        ours = backends.create("numba")
        blas = scipy.linalg.blas.dgemm if precision == "fp64" else scipy.linalg.blas.sgemm

        def ways(random: np.random.Generator) -> list[Work]:
            a, b = (random.standard_normal((edge, edge)).astype(dtype) for _ in range(2))
            c = np.empty_like(a)
            return [
                lambda: np.matmul(a, b, out=c),
                lambda: blas(1.0, b.T, a.T, c=c.T, overwrite_c=True),
                lambda: ours.call("matmul", [a, b, c]),
            ]

        return 2 * edge**3 * self._on_all_cores(ways)

    def _narrow_gemm(self, edge: int) -> float:
        """Return the same of a product of bfloat16: gpubp's, or that of a library that is here."""
        # A step of one layer is two square products: z and dW.
        case = Case((edge, edge), edge, 1, precision="bf16")
        calls = Ours(case, 1).breakdown()
        rates = [call["flops"] / call["seconds"] * self.cores for call in calls]
        for entry in ENTRIES:
            if entry.role == "floor" and entry.suits(case) and not entry.missing:
                products = entry.load()(case, self.cores, **entry.options)
                seconds = min(
                    products.turn(0.0, _ROUND_SECONDS)["step"] for _ in range(self.rounds)
                )
                rates.append(2 * 2 * edge**3 / seconds)
        return float(max(rates))

    def copy(self, size: int) -> float:
        """Return the bytes a second that all cores read and write, each on arrays of its own.

        From array to array or in place, whichever is faster: an update works in place.
        """
        repeats = max(1, (1 << 20) // size)  # so that Python's part is small

        def ways(random: np.random.Generator) -> list[Work]:
            first, second = random.random((2, size // 4), dtype=np.float32)

            def copy() -> None:
                for _ in range(repeats):
                    np.copyto(second, first)

            def negate() -> None:
                for _ in range(repeats):
                    np.negative(first, out=first)

            return [copy, negate]

        return 2 * size * repeats * self._on_all_cores(ways)

    def _on_all_cores(self, ways: Callable[[np.random.Generator], list[Work]]) -> float:
        """Return how often a second all cores together do the work, in the best of several ways.

        Each core's best counts, while the others work, too. So a core that something else takes
        for a while does not lower the roof.
        """
        works = [ways(np.random.default_rng(core)) for core in range(self.cores)]
        with threadpool_limits(1), ThreadPoolExecutor(self.cores) as pool:
            return max(
                sum(1 / seconds for seconds in pool.map(partial(fastest, rounds=self.rounds), same))
                for same in zip(*works, strict=True)
            )

    def call(self) -> float:
        """Return seconds of a call that has next to nothing to do, in a step of such calls."""
        case = Case((1, 1, 2), 1, 256, precision=self.case.precision, device=self.case.device)
        trainer = make_trainer(case)
        run = phases.Phases(trainer, *case.data(), case.batch)
        calls = phases.costs(trainer.plan(case.batch), trainer)["step"]["calls"]
        return min(run.turn(0.1)["step"] for _ in range(self.rounds)) / float(calls)


class CudaRoofs(Roofs):
    """Measurements on a GPU, through gpubp's own driver and on random data."""

    EDGES: tuple[int, ...] = (2048, 8192)
    COPIES = (1 << 20, 1 << 24, 1 << 30)

    def __init__(self, case: Case, rounds: int) -> None:
        super().__init__(case, rounds)
        backend: Any = make_trainer(Case((1, 1, 2), 1, 1, device=case.device))._backend
        self._driver = backend.driver
        self._active = self._driver.active()
        self._active.__enter__()  # for as long as the process lives

    def gemm(self, edge: int, precision: str) -> float:
        """Return the operations a second of a square product by cuBLASLt."""
        driver, dtype = self._driver, devices.PRECISIONS[precision]
        random = np.random.default_rng(0)
        kind = np.float64 if dtype == "float64" else np.float32
        a, b = (random.standard_normal(edge * edge).astype(kind) for _ in range(2))
        if dtype == "bfloat16":
            a, b = bfloat16.from_float32(a), bfloat16.from_float32(b)
        arrays = driver.upload(a), driver.upload(b), driver.zeros(edge * edge, dtype)
        product = driver.product(
            Gemm(edge, edge, edge, False, False, dtype, dtype, precision == "tf32")
        )
        if product is None:
            return 0.0
        places = [driver.address(array) for array in arrays]
        seconds = self._fastest(lambda: driver.multiply(product, *places, 0, 0))
        return 2 * edge**3 / seconds

    def copy(self, size: int) -> float:
        """Return the bytes a second that a copy on the device reads and writes together."""
        source, target = (self._driver.zeros(size // 4, "float32") for _ in range(2))
        source[...] = 1.0

        def copy() -> None:
            target[...] = source

        return 2 * size / self._fastest(copy)

    def _fastest(self, work: Work, count: int = 10) -> float:
        """Return the least seconds of one on the device, by rounds of several."""
        rounds: list[float] = []
        for _ in range(self.rounds + 1):
            before = self._driver.event()
            for _ in range(count):
                work()
            after = self._driver.event()
            after.wait()
            rounds.append(after.seconds_since(before) / count)
        return min(rounds[1:])


def fastest(work: Work, rounds: int) -> float:
    """Return the least seconds that it took, over rounds of at least some length each."""
    work()
    best = float("inf")
    for _ in range(rounds):
        end = time.perf_counter() + _ROUND_SECONDS
        while (start := time.perf_counter()) < end:
            work()
            best = min(best, time.perf_counter() - start)
    return best
