"""What the device can do at most: matrix products, a copy, and launches one after the other.

All through gpubp's own driver, on random data. Each is measured in the run that it is used in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu import device, figures
from gpubp.kernels import bfloat16
from gpubp.kernels.cuda import launch
from gpubp.kernels.cuda.driver import Gemm, Graph
from gpubp.kernels.spec import kernel as contract

NODES = (1, 10, 50, 200)
_DTYPES = {"fp32": "float32", "tf32": "float32", "bf16": "bfloat16"}


class Roofs:
    """Measurements on one device.

    Args:
        stand_in: on the CPU, on next to nothing.
    """

    def __init__(self, stand_in: bool) -> None:
        self._driver = device.driver(stand_in=stand_in)
        self._active = self._driver.active()
        self._active.__enter__()  # for as long as the process lives
        self._edge, self._copied = (16, 1 << 10) if stand_in else (8192, 1 << 28)
        self._rounds, self._launches = (2, 2) if stand_in else (11, 200)

    def gemm(self, precision: str) -> dict[str, Any]:
        """Return the operations a second of a large square product."""
        n, driver, dtype = self._edge, self._driver, _DTYPES[precision]
        random = np.random.default_rng(0)
        left, right = (
            driver.upload(_stored(random.standard_normal(n * n, dtype=np.float32), dtype))
            for _ in range(2)
        )
        c = driver.zeros(n * n, dtype)
        product = driver.product(Gemm(n, n, n, False, False, dtype, dtype, precision == "tf32"))
        if product is None:
            raise RuntimeError(f"there is no product of {n} x {n} in {precision}")
        a, b, to = map(driver.address, (left, right, c))
        rounds = self._timed(lambda: driver.multiply(product, a, b, to, 0, 0), 5)
        return {"n": n, "flops_per_second": figures.spread([2 * n**3 / t for t in rounds])}

    def copy(self) -> dict[str, Any]:
        """Return the bytes a second that a copy on the device reads and writes together."""
        source = device.normal(self._driver, (self._copied,), 0)
        target = self._driver.zeros(self._copied, "float32")

        def copy() -> None:
            target[...] = source

        rounds = self._timed(copy, 5)
        moved = 2 * source.nbytes
        return {"bytes": moved, "bytes_per_second": figures.spread([moved / t for t in rounds])}

    def nodes(self) -> dict[str, Any]:
        """Return what graphs of small dependent kernels take on the device, and to be launched."""
        found: dict[str, Any] = {}
        for count in NODES:
            graph = self._chain(count)
            found[str(count)] = {
                "seconds": figures.spread(self._timed(graph.launch, self._launches)),
                "launch_seconds": figures.spread(self._host_cost(graph)),
            }
        few, many = (found[str(count)]["seconds"]["median"] for count in NODES[-2:])
        # The slope: what a launch costs as a whole is not in it.
        gap = (many - few) / (NODES[-1] - NODES[-2])
        return {"graphs": found, "seconds_a_node": gap}

    def _chain(self, count: int) -> Graph:
        """Return a graph of so many kernels, each of one block, each on what the last one wrote."""
        driver, relu = self._driver, contract("relu")
        arrays = [driver.upload(np.ones(256, np.float32)), driver.zeros(256, "float32")]
        self._kept = arrays
        places = [launch.place_of(driver, array) for array in arrays]
        made = [launch.launch(relu, order, {}) for order in (places, places[::-1])]
        functions = [driver.function(one.variant) for one in made]
        for one, function in zip(made, functions, strict=True):
            driver.launch(function, one.grid, one.block, one.words)
        driver.synchronize()

        def record() -> None:
            for number in range(count):
                one = made[number % 2]
                driver.launch(functions[number % 2], one.grid, one.block, one.words)

        return driver.capture(record)

    def _timed(self, work: Callable[[], None], count: int) -> list[float]:
        """Return by round what one of so many takes on the device; the first two do not count."""
        rounds = []
        for _ in range(-2, self._rounds):
            before = self._driver.event()
            for _ in range(count):
                work()
            after = self._driver.event()
            after.wait()
            rounds.append(after.seconds_since(before) / count)
        return rounds[2:]

    def _host_cost(self, graph: Graph) -> list[float]:
        """Return by round how long the host is busy with a launch, into a queue that has room."""
        rounds, count = [], min(self._launches, 50)
        for _ in range(self._rounds):
            self._driver.synchronize()
            start = time.perf_counter()
            for _ in range(count):
                graph.launch()
            rounds.append((time.perf_counter() - start) / count)
        self._driver.synchronize()
        return rounds


def _stored(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    return bfloat16.from_float32(values) if dtype == "bfloat16" else values
