"""Launches every CUDA kernel once, at sizes that fit nothing: what compute-sanitizer looks at.

    python -P -m gpu.every_kernel [--stand-in] [--compile] [--no-products]

--compile only compiles them, many at a time, which fills CuPy's cache: a sanitizer slows down what
it watches. Each array is an allocation of its own, to its last byte, so that a byte beside it is
nobody's. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import absent  # noqa: F401 (lends what the helpers of the tests import)
import numpy as np

from gpu import device
from gpubp.kernels.cuda import launch, sources
from gpubp.kernels.cuda.cupy_driver import CupyDriver
from gpubp.kernels.cuda.driver import Driver, Variant
from gpubp.kernels.spec import KERNELS

sys.path.append(str(device.TESTS))

import precisions
from host_cuda.products import encode

CallIn = tuple[Any, Any]  # a call of cases.py, a precision of precisions.py

_SIZE = "odd"
_COMPILED_AT_ONCE = 16
_WORKING = ("float32", "bfloat16")


def main() -> int:
    """Return 0; whatever goes wrong is raised, or seen by the sanitizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-products", action="store_true")
    options = parser.parse_args()
    driver = device.driver(stand_in=options.stand_in)
    start = time.perf_counter()
    with driver.active():
        if isinstance(driver, CupyDriver):
            driver.xp.cuda.set_allocator(None)  # no pool: it would lend room beyond an array
        calls = (c for c in _calls() if not (options.no_products and _is_product(c)))
        done = (_compile if options.compile else _launch_all)(driver, calls)
    print(json.dumps(done | {"seconds": time.perf_counter() - start}))
    return 0


def _calls() -> Iterator[CallIn]:
    """Yield a call of each kernel in each working dtype, with its precision."""
    seen = set()
    for variant, precision in precisions.CASES:
        key = variant.kernel.name, str(precision)
        if precision.working in _WORKING and key not in seen:
            seen.add(key)
            yield precision.call(variant, _SIZE), precision


def _is_product(call: CallIn) -> bool:
    return launch.is_product(call[0].kernel.name)


def _launch_all(driver: Driver, calls: Iterable[CallIn]) -> dict[str, Any]:
    ran: set[str] = set()
    lacking: set[str] = set()
    for call, precision in calls:
        (ran if _run(driver, call, precision) else lacking).add(call.kernel.name)
    driver.synchronize()
    # A product with an epilogue may be there for some shapes and dtypes only.
    return {"kernels": len(ran), "without": sorted(lacking - ran), "of": len(KERNELS)}


def _run(driver: Driver, call: Any, precision: Any) -> bool:
    """Launch a call; return False where the library has no such product."""
    kernel = call.kernel
    places: list[launch.Place | None] = []
    held = []
    for declared, array in zip(kernel.operands, call.operands, strict=True):
        if array is None:
            places.append(None)
            continue
        dtype = precision.dtype(declared, array)
        held.append(driver.upload(np.ascontiguousarray(encode(array, dtype))))
        places.append(launch.Place(driver.address(held[-1]), array.shape, dtype))
    if launch.is_product(kernel.name):
        shapes = [None if place is None else (place.shape, place.dtype) for place in places]
        product = driver.product(launch.gemm(kernel, shapes, call.scalars, tf32=False))
        if product is not None:
            launch.multiply(driver, product, kernel, places)
        driver.synchronize()
        return product is not None
    partials, tickets = launch.scratch_of(kernel, places, call.scalars)
    sums, counts = (
        driver.zeros(max(1, partials), "float64"),
        driver.zeros(max(1, tickets), "uint32"),
    )
    scratch = launch.Scratch(driver.address(sums), driver.address(counts))
    made = launch.launch(kernel, places, call.scalars, scratch=scratch)
    driver.launch(driver.function(made.variant), made.grid, made.block, made.words)
    driver.synchronize()
    return True


def _compile(driver: Driver, calls: Iterable[CallIn]) -> dict[str, Any]:
    """Compile the variants of all calls, each as the driver would, so that its cache has them."""
    variants: set[Variant] = set()
    for call, precision in calls:
        if not _is_product((call, precision)):
            places = [
                None if x is None else launch.Place(0, x.shape, precision.dtype(declared, x))
                for declared, x in zip(call.kernel.operands, call.operands, strict=True)
            ]
            variants.add(launch.variant(call.kernel, places))

    def compile_one(variant: Variant) -> None:
        with driver.active():
            if isinstance(driver, CupyDriver):
                driver.compile(sources.text(variant.family), sources.expression(variant))
            else:
                driver.function(variant)

    with ThreadPoolExecutor(_COMPILED_AT_ONCE) as pool:
        list(pool.map(compile_one, variants))
    return {"variants": len(variants)}


if __name__ == "__main__":
    sys.exit(main())
