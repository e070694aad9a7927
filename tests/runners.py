"""The implementations of kernels that are under test, and how their results are compared."""

import array_api_strict
import numpy as np
import pytest
from cases import Call

from gpubp.kernels import reference
from gpubp.kernels.numba import eager
from gpubp.kernels.spec import KERNELS


def _why_numba_lacks(name):
    if name.startswith("matmul_") and name not in ("matmul_bias", "matmul_bias_relu"):
        return "it would save no pass that costs"
    if name.endswith(("_dropout", "_dropout_delta_bias_grad")) and "_" in name:
        return "on a CPU the passes cost what they compute, not what they launch"
    return ""


# What Numba lacks, and why. An entry too many fails, as does one too few.
NUMBA_LACKS = {name: why for name in KERNELS if (why := _why_numba_lacks(name))}

# Rounding allowed, relative to the largest element expected.
ROUNDING = {"float32": 4e-6, "float64": 1e-13}


def run_reference(call):
    with np.errstate(all="ignore"):
        reference.function(call.kernel.name)(*call.operands, **call.scalars)


def run_strict(call):
    if any(x is not None and x.dtype.name == "bfloat16" for x in call.operands):
        pytest.skip("array-api-strict has no bfloat16")
    arrays = {id(x): array_api_strict.asarray(x, copy=True) for x in call.operands if x is not None}
    operands = [None if x is None else arrays[id(x)] for x in call.operands]
    with np.errstate(all="ignore"):
        reference.function(call.kernel.name)(*operands, **call.scalars)
    for array in call.operands:
        if array is not None:
            array[...] = np.asarray(arrays[id(array)])


def run_numba(call):
    if call.kernel.name in NUMBA_LACKS:
        pytest.skip(NUMBA_LACKS[call.kernel.name])
    eager.run(call.kernel.name, call.operands, call.scalars)


RUN = {"reference": run_reference, "strict": run_strict, "numba": run_numba}

every_backend = pytest.mark.parametrize("run", RUN.values(), ids=RUN.keys())


def evaluate(run, name, /, **values):
    """Return what a kernel writes for operands and scalars given by name, each in an array."""
    kernel = KERNELS[name]
    scalars = {s.name: values.pop(s.name) for s in kernel.scalars if s.name in values}
    scalars = kernel.bind_scalars(scalars)
    operands = [values.pop(operand.name, None) for operand in kernel.operands]
    assert not values, f"{name} has no {sorted(values)}"
    made = kernel.infer(operands, scalars)
    for place, operand in enumerate(kernel.operands):
        if operand.name in made:
            operands[place] = np.zeros(*made[operand.name])
    call = Call(kernel, operands, scalars)
    run(call)
    return call.written


def close(actual, expected, dtype, what):
    """Assert equality up to rounding in floats, exact equality in anything else."""
    if actual.dtype.name == "bfloat16":
        actual, expected = actual.astype(np.float32), np.asarray(expected, np.float32)
        np.testing.assert_allclose(actual, expected, rtol=2**-7, err_msg=what)
        return
    if actual.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected, err_msg=what)
        return
    finite = np.abs(expected)[np.isfinite(expected)]
    rounding = ROUNDING[dtype]
    np.testing.assert_allclose(
        actual, expected, rtol=rounding, atol=rounding * max(1, finite.max(initial=0)), err_msg=what
    )


def same(actual, expected, what):
    """Assert equality to the last bit (NaN equals NaN)."""
    if actual.dtype.name == "bfloat16" == expected.dtype.name:  # whose NaNs NumPy does not know
        actual, expected = actual.view(np.uint16), expected.view(np.uint16)
    np.testing.assert_array_equal(actual, expected, err_msg=what)
    assert actual.dtype == expected.dtype, what
