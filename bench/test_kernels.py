"""Every kernel on every backend that has it, one call; on CPUs on one thread each.

The calls are those of the conformance tests at a size that is worth timing, and are checked against
the reference in float64.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import suites
from gpubp import backends, devices
from gpubp.backends.base import Backend
from gpubp.backends.modes import TOLERANCE
from gpubp.bench import limits
from gpubp.bench.cases import Case
from gpubp.errors import GpubpError
from gpubp.kernels import bfloat16, reference
from gpubp.kernels.contract import Kernel, Operand
from gpubp.kernels.spec import KERNELS
from gpubp.plan.ir import ANY, Buffer, Call

# Last: both folders have a networks.py.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import cases

_ROUNDS, _QUICK_ROUNDS = 30, 5
_DATA = ("N", "S")  # axes of the user's data
_ROUNDED = "rounded"  # of updates: the operand that only networks of bfloat16 have
cases.SIZES["timed"] = {
    "B": 128, "I": 256, "O": 512, "K": 64, "N": 1024, "S": 600, "P": 65_536, "T": 1,
    "...": (128, 512),
}  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    dtypes = ["float32", "float64"] if metafunc.config.getoption("--all") else ["float32"]
    metafunc.parametrize("dtype", dtypes)


@pytest.fixture(params=backends.DEVICES, scope="module")
def backend(request: pytest.FixtureRequest) -> Any:
    problem = devices.cuda_problem() if request.param == "cupy" else ""
    if problem:
        pytest.skip(problem)
    made = backends.create(request.param)
    with made.active():
        yield made


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=lambda kernel: kernel.name)
def test_kernel(
    benchmark: Any, backend: Backend, kernel: Kernel, dtype: str, quick: bool,
    roofs: suites.RoofsOf,
) -> None:  # fmt: skip
    call = _call(kernel, dtype)
    described = _described(call)
    if backend.name != "numpy" and not backend.has(described):
        pytest.skip(f"{backend.name} has no {kernel.name} of its own")
    operands = _moved(backend, call)
    finish = _finish(backend)
    try:
        backend.call(kernel.name, operands, **call.scalars)
    except GpubpError as error:
        pytest.skip(str(error))
    _check(backend, call, operands, dtype)
    benchmark.group = f"kernel {kernel.name} {dtype}"
    benchmark.extra_info |= {
        "contender": backend.name, "role": "peer" if backend.name == "numpy" else "ours",
        "default": backend.name != "numpy", "flops": described.flops, "bytes": described.bytes,
    }  # fmt: skip

    def work() -> None:
        backend.call(kernel.name, operands, **call.scalars)
        finish()

    with threadpool_limits(1, user_api="blas"):
        benchmark.pedantic(work, rounds=_QUICK_ROUNDS if quick else _ROUNDS, iterations=1)
    benchmark.extra_info |= _limit(roofs, backend, described, dtype, benchmark.stats.stats.median)


def _limit(
    roofs: suites.RoofsOf, backend: Backend, call: Call, dtype: str, seconds: float
) -> dict[str, Any]:
    """Return the part of its roof that a call reached, and by what it is bound."""
    precision = next(name for name, known in devices.PRECISIONS.items() if known == dtype)
    device = backends.DEVICES[backend.name]
    case = Case((1, 1), 1, 1, precision=precision, device=device)
    here = roofs(case, cores=1) if device == "cpu" else roofs(case)
    cost = {"flops": call.flops, "bytes": call.bytes, "calls": None}
    limit = limits.limit(here, device, precision, cost, call.bytes)
    if limit is None:
        return {}
    assert limit.seconds <= limits.SLACK * seconds, f"above its {limit.bound} roof"
    return {"utilisation": limit.seconds / seconds, "bound": limit.bound}


def _call(kernel: Kernel, dtype: str) -> Any:
    """Return a call with the optional operands that networks of this dtype have."""
    return cases.make(
        kernel, dtype, "timed", absent=[o.name for o in kernel.operands if o.name == _ROUNDED]
        if kernel.name != "round_bfloat16" else (),
    )  # fmt: skip


def _described(call: Any) -> Call:
    """Return the call as a plan has it, which knows what it costs: of the data, the minibatch."""
    buffers = tuple(
        None if x is None else Buffer(o.name, _shape(o, x), x.dtype.name, "transient")
        for o, x in zip(call.kernel.operands, call.operands, strict=True)
    )
    return Call(call.kernel.name, buffers, tuple(call.scalars.items()))


def _shape(operand: Operand, array: np.ndarray) -> tuple[int, ...]:
    """Return a shape as a plan has it, where the lengths of the data are not known."""
    known = [
        ANY if axis in _DATA else length
        for axis, length in zip(operand.axes, array.shape, strict=False)
    ]
    return (*known, *array.shape[len(known) :])


def _moved(backend: Backend, call: Any) -> list[Any]:
    host = [None if x is None else np.copy(x) for x in call.operands]
    if backend.name == "cupy":  # where bfloat16 are bits
        host = [x.view(np.uint16) if _narrow(x) else x for x in host]
    return [None if x is None else backend.to_device(x) for x in host]


def _narrow(array: Any) -> bool:
    return array is not None and array.dtype.name == "bfloat16"


def _finish(backend: Backend) -> Callable[[], None]:
    """Return what waits until a call is done."""
    driver = getattr(backend, "driver", None)
    return driver.synchronize if driver is not None else lambda: None


def _check(backend: Backend, call: Any, operands: list[Any], dtype: str) -> None:
    """Compare what a first call wrote with the reference in float64."""
    wide = call.in_float64()
    with np.errstate(all="ignore"):
        reference.function(call.kernel.name)(*wide.operands, **call.scalars)
    for declared, got, expected in zip(call.kernel.operands, operands, wide.operands, strict=True):
        if declared.written and got is not None and declared.name != "mask":
            found, kind = backend.to_host(got), dtype
            if _narrow(found) or found.dtype == np.uint16:
                kind = "bfloat16"
                found = found.astype(np.float32) if _narrow(found) else bfloat16.to_float32(found)
            tolerance = TOLERANCE[kind]
            limit = tolerance * max(np.abs(expected).max(initial=0.0), 1e-30)
            np.testing.assert_allclose(found, expected, rtol=0, atol=limit)
