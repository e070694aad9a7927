"""Every kernel of every backend against its contract, the float64 reference and an oracle."""

import inspect
from importlib import import_module

import cases
import numpy as np
import oracles
import pytest
from numba.core.runtime import _nrt_python, rtsys
from runners import (
    NUMBA_LACKS,
    ROUNDING,
    close,
    every_backend,
    run_numba,
    run_reference,
    same,
)

from gpubp.errors import OperandError
from gpubp.kernels import reference
from gpubp.kernels.contract import REAL_DTYPES
from gpubp.kernels.numba import eager, entry
from gpubp.kernels.spec import ELEMENTWISE, KERNELS

every_variant = pytest.mark.parametrize(
    ("variant", "dtype"),
    [pytest.param(v, dtype, id=f"{v}-{dtype}") for v in cases.VARIANTS for dtype in v.dtypes],
)
every_size = pytest.mark.parametrize("size", cases.SIZES)
every_kernel = pytest.mark.parametrize("name", KERNELS)


@every_kernel
def test_the_reference_has_the_names_of_the_contract(name):
    kernel = KERNELS[name]
    function = reference.function(name)
    parameters = inspect.signature(function).parameters.values()
    positional = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    keywords = {p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY}
    assert function.__name__ == name
    assert positional == [operand.name for operand in kernel.operands]
    assert keywords == {
        s.name: inspect.Parameter.empty if s.default is None else s.default for s in kernel.scalars
    }


@every_kernel
def test_numba_has_the_operands_of_the_contract_or_a_reason(name):
    assert entry.implements(name) != (name in NUMBA_LACKS)
    if name not in NUMBA_LACKS:
        kernel = KERNELS[name]
        body = getattr(import_module(f"gpubp.kernels.numba.{kernel.module}"), name)
        blas = ["tiles", "blas"] if entry.is_product(kernel) else []
        inspect.signature(body.py_func).bind(*kernel.operands, *kernel.scalars, *blas)


@every_backend
@every_variant
@every_size
def test_values(run, variant, dtype, size):
    """Right by reference and by oracle, from inputs that stay as they were."""
    call = variant.call(dtype, size)
    oracle = oracles.expected(call)
    truth, before = call.in_float64(), call.copy()
    run_reference(truth)
    run(call)
    for name, array in call.reads.items():
        if array is not None:
            same(array, before.reads[name], f"the input {name}")
    for name, array in call.written.items():
        close(array, truth.written[name], dtype, f"{name} against the reference")
        close(array, oracle[name], dtype, f"{name} against the oracle")


@every_backend
@every_variant
def test_declared_aliases_change_nothing(run, variant, dtype):
    """Nothing but, in compiled code, the order in which a sum was vectorised."""
    if not variant.kernel.inplace:
        return
    apart = variant.call(dtype, "odd")
    run(apart)
    for source, target in variant.kernel.inplace:
        call = variant.call(dtype, "odd")
        names = list(call.named)
        call.operands[names.index(target)] = call.operands[names.index(source)]
        run(call)
        for name, array in call.written.items():
            what = f"{name} where {target} is {source}"
            if run is run_numba:
                close(array, apart.written[name], dtype, what)
            else:
                same(array, apart.written[name], what)


@pytest.mark.parametrize("run", [run_reference, run_numba])
@every_variant
@every_size
def test_nothing_is_written_outside_the_outputs(run, variant, dtype, size):
    guard = 64
    buffers = []

    def guarded(_, array):
        buffers.append(np.full(array.nbytes + 2 * guard, 0xA5, np.uint8))
        inside = buffers[-1][guard : guard + array.nbytes].view(array.dtype).reshape(array.shape)
        inside[...] = array
        return inside

    run(variant.call(dtype, size).mapped(guarded))
    for name, buffer in zip(
        [n for n, x in variant.call(dtype, size).named.items() if x is not None],
        buffers,
        strict=True,
    ):
        around = np.concatenate([buffer[:guard], buffer[buffer.size - guard :]])
        assert (around == 0xA5).all(), name


def strided(_, array):
    """Return the same values in every second place of a larger array."""
    wide = np.zeros((*array.shape, 2), array.dtype)
    wide[..., 0] = array
    return wide[..., 0]


@every_variant
def test_the_reference_takes_any_layout(variant, dtype):
    whole = variant.call(dtype, "three")
    spread = whole.mapped(strided)
    run_reference(whole)
    run_reference(spread)
    for name, array in spread.written.items():
        close(array, whole.written[name], dtype, name)


@every_kernel
def test_numba_refuses_other_layouts_before_it_writes(name):
    if name in NUMBA_LACKS:
        pytest.skip(NUMBA_LACKS[name])
    call = cases.Variant(KERNELS[name]).call("float32", "three")
    for place, array in enumerate(call.operands):
        if array.size == 1:
            continue
        operands = call.copy().operands
        operands[place] = strided(None, array)
        before = [x.copy() for x in operands]
        with pytest.raises(OperandError, match="not C-contiguous"):
            eager.run(name, operands, call.scalars)
        for was, array_now in zip(before, operands, strict=True):
            same(array_now, was, name)


@every_variant
def test_numba_allocates_nothing(variant, dtype):
    call = variant.call(dtype, "odd")
    run_numba(call)
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    for _ in range(100):
        run_numba(call)
    assert rtsys.get_allocation_stats() == before


@every_backend
@every_variant
def test_what_is_not_finite_is_not_hidden(run, variant, dtype):
    """What comes out is not finite where the formula is not, and nowhere else.

    Compiled code may take x - β x for (1 - β) x, so that an infinity may become NaN.
    """
    if variant.kernel.family == "metric":
        return  # where the largest of NaNs lies is not defined

    call = variant.call(dtype, "odd").mapped(cases.sprinkled)
    truth = call.in_float64()
    run_reference(truth)
    run(call)
    for name, array in call.written.items():
        lost = np.isinf(truth.written[name].astype(float)) & np.isnan(array.astype(float))
        close(array, np.where(lost, np.nan, truth.written[name]), dtype, name)


@every_backend
@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_nan_goes_through_an_activation(run, name, dtype):
    for kernel in (KERNELS[name], KERNELS[f"{name}_delta"]):
        call = cases.Variant(kernel).call(dtype, "three")
        call.operands[0][0, 0, :] = np.nan
        run(call)
        out = call.operands[-1]
        assert np.isnan(out[0, 0]).all()
        assert np.isfinite(out[1:]).all()


@every_backend
@pytest.mark.parametrize("source", REAL_DTYPES)
@pytest.mark.parametrize("name", ["gather", "take_rows"])
def test_rows_of_any_dtype_are_converted(run, name, source):
    call = cases.make(KERNELS[name], "float32", "three", source=source)
    expected = oracles.expected(call)["x"].astype("float32")
    run(call)
    same(call.named["x"], expected, name)
