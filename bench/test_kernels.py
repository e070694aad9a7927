"""Kernels of the numba backend against the reference in NumPy, one call on one thread each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from gpubp import backends
from gpubp.kernels.spec import kernel as contract

_ROUNDS = 40
_ROWS, _COLUMNS = 256, 512
_FLAT = 262_144


@dataclass(frozen=True)
class Case:
    """A kernel with the shapes of its operands."""

    kernel: str
    shapes: tuple[tuple[int, ...], ...]
    scalars: Mapping[str, float]


_MATRIX, _VECTOR = (_ROWS, _COLUMNS), (_COLUMNS,)
_CASES = [
    Case("matmul", (_MATRIX, (_COLUMNS, _COLUMNS), _MATRIX), {}),
    Case("bias_relu", (_MATRIX, _VECTOR, _MATRIX), {}),
    Case("relu_delta_bias_grad", (_MATRIX, _MATRIX, _MATRIX, _VECTOR), {}),
    Case("tanh", (_MATRIX, _MATRIX), {}),
    Case("gelu", (_MATRIX, _MATRIX), {}),
    Case("softmax", (_MATRIX, _MATRIX), {}),
    Case("adam", ((_FLAT,), (1,), (1,), (_FLAT,), (_FLAT,), (_FLAT,)), {}),
]


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.kernel)
def test_kernel(benchmark: Any, case: Case, backend: str) -> None:
    benchmark.group = f"kernel {case.kernel}"
    benchmark.extra_info |= {
        "contender": backend, "role": "ours" if backend == "numba" else "peer",
        "default": backend == "numba",
    }  # fmt: skip
    expected, operands = _operands(case), _operands(case)
    backends.create("numpy").call(case.kernel, expected, **case.scalars)
    chosen = backends.create(backend)
    chosen.call(case.kernel, operands, **case.scalars)
    for got, wanted in zip(operands, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    with threadpool_limits(1, user_api="blas"):
        arguments = (case.kernel, operands)
        benchmark.pedantic(chosen.call, arguments, case.scalars, rounds=_ROUNDS, iterations=5)


def _operands(case: Case) -> list[Any]:
    random = np.random.default_rng(0)
    return [
        random.random(shape, dtype=np.float32)
        if declared.dtype == "float"
        else np.ones(shape, declared.dtype)
        for declared, shape in zip(contract(case.kernel).operands, case.shapes, strict=True)
    ]
