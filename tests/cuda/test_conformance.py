"""Every CUDA kernel against its contract, the float64 reference and an oracle.

On the stand-in all is done in several orders of turns, which must give the same bits: a kernel
whose result depends on the order has a race.
"""

import cases
import numpy as np
import oracles
import pytest
from cuda_calls import run, run_in_turns
from precisions import CASES, Precision, agree, check, precisions
from runners import run_reference, same

from gpubp.kernels.contract import REAL_DTYPES, WIDE
from gpubp.kernels.cuda import launch
from gpubp.kernels.spec import ELEMENTWISE, KERNELS


def each_case(wanted=lambda kernel: True):
    """Return the mark for a test of every kernel that is wanted, in each of its precisions."""
    found = [pytest.param(v, p, id=f"{v}-{p}") for v, p in CASES if wanted(v.kernel)]
    return pytest.mark.parametrize(("variant", "precision"), found)


def is_launched(kernel):
    return not launch.is_product(kernel.name)


def has_a_free_grid(kernel):
    return is_launched(kernel) and kernel.name not in ("advance", "rate")


def is_guarded(kernel):
    return kernel.family in ("optimizer", "gradient") or kernel.name == "advance"


def test_every_kernel_has_a_cuda_version():
    assert [name for name in KERNELS if not launch.implements(name)] == []
    assert {variant.kernel.name for variant, _ in CASES} == set(KERNELS)


@each_case()
def test_values(driver, turns, variant, precision):
    """Right by reference and by oracle; inputs stay as they were, nothing else is written."""
    for size in ("empty", "one", "three", "odd"):
        call = precision.call(variant, size)
        # An activation that was rounded to bfloat16 is not that of the oracle's z.
        exact = precision.working != "bfloat16" or not call.hidden
        done = run_in_turns(driver, turns if size == "odd" else turns[:1], call, precision)
        if done:
            check(call, done, precision, against_oracle=exact)


@each_case(is_launched)
def test_many_blocks(driver, turns, variant, precision):
    call = precision.call(variant, "many")
    check(call, run_in_turns(driver, turns, call, precision), precision, against_oracle=False)


@each_case(is_launched)
def test_operands_that_are_not_aligned_to_packs(driver, variant, precision):
    call = precision.call(variant, "many")
    done = call.copy()
    run(driver, done, precision, askew=True)
    check(call, done, precision, against_oracle=False)


@each_case(has_a_free_grid)
def test_any_grid_does_the_work(driver, variant, precision):
    columns = variant.kernel.name.endswith("bias_grad")  # a block across for each 32 of them
    call = precision.call(variant, "odd")
    for change in (lambda _: 1, lambda blocks: blocks + 3):
        done = call.copy()
        run(driver, done, precision, grid=lambda grid: (
            (grid[0], change(grid[1])) if columns else (change(grid[0]), grid[1])  # noqa: B023
        ))  # fmt: skip
        check(call, done, precision, against_oracle=False)


@each_case(lambda kernel: kernel.inplace)
def test_declared_aliases_change_nothing(driver, variant, precision):
    kernel = variant.kernel
    for source, target in kernel.inplace:
        apart, call = (precision.call(variant, "many") for _ in range(2))
        names = list(call.named)
        dtypes = [
            precision.dtype(kernel.index[name], call.named[name]) for name in (source, target)
        ]
        if dtypes[0] != dtypes[1]:
            continue
        call.operands[names.index(target)] = call.operands[names.index(source)]
        run(driver, apart, precision)
        run(driver, call, precision)
        for name, array in call.written.items():
            if array is not None:
                same(array, apart.written[name], f"{name} where {target} is {source}")


# Where the largest of NaNs lies, which metrics ask, is not defined.
@each_case(lambda kernel: kernel.family != "metric")
def test_what_is_not_finite_is_not_hidden(driver, variant, precision):
    """What comes out is not finite where the formula is not, and nowhere else."""

    call = precision.call(variant, "odd").mapped(cases.sprinkled)
    truth = call.in_float64()
    run_reference(truth)
    if not run(driver, call, precision):
        pytest.skip("the library has no such product")
    for declared in variant.kernel.outputs:
        name, array = declared.name, call.named[declared.name]
        if array is not None:
            agree(array, truth.written[name], declared, precision, name)


@each_case(is_guarded)
def test_a_loss_that_is_not_finite_holds_updates_back(driver, variant, precision):
    for loss in (np.nan, np.inf, -np.inf):
        call = precision.call(variant, "odd")
        done = call.copy()
        run(driver, done, precision, guard=loss)
        for name, array in done.written.items():
            if array is not None:
                same(array, call.written[name], f"{name} after a loss of {loss}")
    done = call.copy()
    run(driver, done, precision, guard=1e308)
    check(call, done, precision, against_oracle=False)


@pytest.mark.parametrize("precision", precisions(KERNELS["relu"]), ids=str)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_nan_goes_through_an_activation(driver, name, precision):
    for kernel in (KERNELS[name], KERNELS[f"{name}_delta"]):
        call = precision.call(cases.Variant(kernel), "three")
        call.operands[0][0, 0, :] = np.nan
        run(driver, call, precision)
        out = call.operands[-1]
        assert np.isnan(out[0, 0]).all()
        assert np.isfinite(out[1:]).all()


@pytest.mark.parametrize("source", REAL_DTYPES)
@pytest.mark.parametrize("working", WIDE)
@pytest.mark.parametrize("name", ["gather", "take_rows"])
def test_rows_of_any_dtype_are_converted(driver, name, working, source):
    precision = Precision(working)
    call = cases.make(KERNELS[name], WIDE[working], "three", source=source)
    expected = precision.rounded(KERNELS[name].index["x"], oracles.expected(call)["x"])
    run(driver, call, precision)
    same(call.named["x"], expected.astype(WIDE[working]), name)


def test_rounding_to_bfloat16_is_to_nearest_with_ties_to_even(driver):
    # Upper and lower half: ties, their neighbours, the largest number, infinity, subnormal numbers.
    bits = [0x3F808000, 0x3F818000, 0x3F808001, 0x3F817FFF, 0x7F7FFFFF, 0xFF800000, 0x00008000,
            0x80018000, 0x7F800001, 0xFFFFFFFF]  # fmt: skip
    wanted = [0x3F80, 0x3F82, 0x3F81, 0x3F81, 0x7F80, 0xFF80, 0x0000, 0x8002]
    values = np.array(bits, np.uint32).view(np.float32)
    call = cases.Call(KERNELS["round_bfloat16"], [values, np.empty_like(values)], {})
    run(driver, call, Precision("float32"))
    rounded = call.named["rounded"]
    assert (rounded.view(np.uint32)[:8] >> 16).tolist() == wanted
    assert np.isnan(rounded[8:]).all()


@pytest.mark.parametrize("name", ["count_correct", "count_correct_dense"])
def test_the_first_of_equal_maxima_counts(driver, name):
    call = Precision("float32").call(cases.Variant(KERNELS[name]), "many")
    z, target, count = call.operands
    z[...] = np.random.default_rng(0).integers(0, 3, z.shape)
    first = z.argmax(axis=1)
    target[...] = first if target.ndim == 1 else np.eye(z.shape[1])[first]
    before = int(count[0])
    run(driver, call, Precision("float32"))
    assert count[0] == before + len(z)


@pytest.mark.parametrize("limit", [0.5, 2.0])
def test_a_norm_within_the_limit_is_kept(driver, limit):
    call = cases.make(KERNELS["clip_norm"], "float32", "odd", limit=limit)
    call.named["squares"][:] = 0.5  # two of them, so the norm is 1
    before = call.named["grads"].copy()
    run(driver, call, Precision("float32"))
    np.testing.assert_array_equal(call.named["grads"], before * min(1, limit))
