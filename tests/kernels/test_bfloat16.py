"""Every kernel of the CPU in bfloat16: stored so, as bits in uint16, and computed in float32."""

import cases
import numpy as np
import oracles
import pytest
from cpu_calls import WAYS, run, run_numba
from host_cuda.products import decode
from numba.core.runtime import _nrt_python, rtsys
from precisions import CASES, Precision, agree, check
from runners import run_reference, same

from gpubp.kernels.contract import REAL_DTYPES
from gpubp.kernels.numba import eager, gemm_bfloat16
from gpubp.kernels.spec import ELEMENTWISE, KERNELS

SUITED_TO_PAIRS = gemm_bfloat16.SUITED_TO_PAIRS


def is_narrow(variant, precision):
    operands = [o for o in variant.kernel.operands if o.name not in variant.absent]
    return precision.working == "bfloat16" or any(o.dtype == "bfloat16" for o in operands)


def roundings(way, variant):
    """Return how often a result may have been rounded.

    An optimizer is several passes of compiled code. (No plan has one that works in bfloat16.)
    """
    return 3 if way is run_numba and variant.kernel.family == "optimizer" else 1


every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
each_case = pytest.mark.parametrize(
    ("variant", "precision"),
    [pytest.param(v, p, id=f"{v}-{p}") for v, p in CASES if is_narrow(v, p)],
)


@every_way
@each_case
def test_values(way, variant, precision):
    """Right by reference and by oracle; inputs stay as they were, nothing else is written."""
    for size in cases.SIZES:
        call = precision.call(variant, size)
        done = call.copy()
        run(way, done, precision)
        # An activation that was rounded to bfloat16 is not that of the oracle's z.
        exact = precision.working != "bfloat16" or not call.hidden
        check(call, done, precision, against_oracle=exact, roundings=roundings(way, variant))


@pytest.mark.parametrize("pairs", [True, False])
@each_case
def test_products_by_pairs_and_in_float32(variant, precision, pairs, monkeypatch):
    if "c" not in variant.kernel.index:
        pytest.skip("no product")
    if pairs and not SUITED_TO_PAIRS:
        pytest.skip("the processor does not multiply pairs")
    monkeypatch.setattr(gemm_bfloat16, "SUITED_TO_PAIRS", pairs)
    test_values(run_numba, variant, precision)


@every_way
@each_case
def test_declared_aliases_change_nothing(way, variant, precision):
    kernel = variant.kernel
    for source, target in kernel.inplace:
        apart, call = (precision.call(variant, "odd") for _ in range(2))
        names = list(call.named)
        dtypes = [precision.dtype(kernel.index[n], call.named[n]) for n in (source, target)]
        if dtypes[0] != dtypes[1]:
            continue
        call.operands[names.index(target)] = call.operands[names.index(source)]
        run(way, apart, precision)
        run(way, call, precision)
        for declared in kernel.outputs:
            name, array = declared.name, call.named[declared.name]
            if array is not None:
                what = f"{name} where {target} is {source}"
                agree(array, apart.named[name].astype(float), declared, precision, what)


# Where the largest of NaNs lies, which metrics ask, is not defined.
@every_way
@each_case
def test_what_is_not_finite_is_not_hidden(way, variant, precision):
    """What comes out is not finite where the formula is not, and nowhere else.

    Compiled code may take x - β x for (1 - β) x, so that an infinity may become NaN.
    """
    if variant.kernel.family == "metric":
        return

    call = precision.call(variant, "odd").mapped(cases.sprinkled)
    truth = call.in_float64()
    run_reference(truth)
    run(way, call, precision)
    for declared in variant.kernel.outputs:
        name, array = declared.name, call.named[declared.name]
        if array is not None:
            wanted = truth.named[name].astype(float)
            lost = np.isinf(wanted) & np.isnan(array.astype(float))
            expected = np.where(lost, np.nan, wanted)
            agree(array, expected, declared, precision, name, roundings=roundings(way, variant))


@every_way
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_nan_goes_through_an_activation(way, name):
    precision = Precision("bfloat16")
    for kernel in (KERNELS[name], KERNELS[f"{name}_delta"]):
        call = precision.call(cases.Variant(kernel), "three")
        call.operands[0][0, 0, :] = np.nan
        run(way, call, precision)
        out = call.operands[-1]
        assert np.isnan(out[0, 0]).all()
        assert np.isfinite(out[1:]).all()


@every_way
@pytest.mark.parametrize("source", REAL_DTYPES)
@pytest.mark.parametrize("name", ["gather", "take_rows"])
def test_rows_of_any_dtype_are_converted(way, name, source):
    precision = Precision("bfloat16")
    call = cases.make(KERNELS[name], "float32", "three", source=source)
    expected = precision.rounded(KERNELS[name].index["x"], oracles.expected(call)["x"])
    run(way, call, precision)
    same(call.named["x"], expected.astype("float32"), name)


@every_way
def test_rounding_is_to_nearest_with_ties_to_even(way):
    """Every upper half of a float32, with lower halves around the middle between two numbers."""
    upper = np.arange(2**16, dtype=np.uint32)[:, None]
    values = (upper << 16 | np.array([0, 0x7FFF, 0x8000, 0x8001], np.uint32)).view(np.float32)
    expected = np.concatenate([upper, upper, upper + upper % 2, upper + 1], axis=1)
    rounded = np.zeros(values.size, np.uint16)
    way("round_bfloat16", [values.ravel(), rounded], ("float32", "bfloat16"), {})
    rounded, number = rounded.reshape(values.shape), ~np.isnan(values)
    np.testing.assert_array_equal(rounded[number], expected[number])
    assert np.isnan(decode(rounded[~number], "bfloat16")).all()


@each_case
def test_numba_allocates_nothing(variant, precision):
    call = precision.call(variant, "odd")
    run(run_numba, call, precision)
    _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    for _ in range(10):
        run(run_numba, call, precision)
    assert rtsys.get_allocation_stats() == before


@pytest.mark.parametrize("name", ["round_bfloat16", "matmul", "softmax_cross_entropy"])
def test_arrays_of_ml_dtypes_are_taken_too(name):
    dtype = pytest.importorskip("ml_dtypes").bfloat16
    call = cases.Variant(KERNELS[name]).call(
        "bfloat16" if name != "round_bfloat16" else "float32", "odd"
    )
    assert any(x is not None and x.dtype == dtype for x in call.operands)
    truth = call.in_float64()
    run_reference(truth)
    eager.run(name, call.operands, call.scalars)
    for declared in call.kernel.outputs:
        actual = call.named[declared.name]
        agree(
            actual.astype(np.float32),
            truth.named[declared.name].astype(np.float32),
            declared,
            Precision("bfloat16"),
            name,
        )
