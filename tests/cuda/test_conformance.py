"""Every CUDA kernel against its contract, the float64 reference and an oracle.

On the stand-in all is done in several orders of turns, which must give the same bits: a kernel
whose result depends on the order has a race.
"""

import cases
import numpy as np
import oracles
import pytest
from cuda_calls import CASES, Precision, agree, check, precisions, run, run_in_turns
from runners import run_reference, same

from gpubp.kernels.contract import REAL_DTYPES, WIDE
from gpubp.kernels.cuda import launch
from gpubp.kernels.spec import ELEMENTWISE, KERNELS

every_case = pytest.mark.parametrize(
    ("variant", "precision"), [pytest.param(v, p, id=f"{v}-{p}") for v, p in CASES]
)


def test_every_kernel_has_a_cuda_version():
    assert [name for name in KERNELS if not launch.implements(name)] == []
    assert {variant.kernel.name for variant, _ in CASES} == set(KERNELS)


@every_case
def test_values(driver, turns, variant, precision):
    """Right by reference and by oracle; inputs stay as they were, nothing else is written."""
    for size in ("empty", "one", "three", "odd"):
        call = precision.call(variant, size)
        # An activation that was rounded to bfloat16 is not that of the oracle's z.
        exact = precision.working != "bfloat16" or not call.hidden
        done = run_in_turns(driver, turns if size == "odd" else turns[:1], call, precision)
        check(call, done, precision, against_oracle=exact)


@every_case
def test_many_blocks(driver, turns, variant, precision):
    if launch.is_product(variant.kernel.name):
        return  # blocks are the library's business
    call = precision.call(variant, "many")
    check(call, run_in_turns(driver, turns, call, precision), precision, against_oracle=False)


@every_case
def test_operands_that_are_not_aligned_to_packs(driver, variant, precision):
    if launch.is_product(variant.kernel.name):
        return  # the library was asked for a product of aligned operands
    call = precision.call(variant, "many")
    done = call.copy()
    run(driver, done, precision, askew=True)
    check(call, done, precision, against_oracle=False)


@every_case
def test_any_grid_does_the_work(driver, variant, precision):
    kernel = variant.kernel
    if launch.is_product(kernel.name) or kernel.name in ("advance", "rate"):
        return
    columns = kernel.name.endswith("bias_grad")  # a block across for each 32 of them
    call = precision.call(variant, "odd")
    for change in (lambda _: 1, lambda blocks: blocks + 3):
        done = call.copy()
        run(driver, done, precision, grid=lambda grid: (
            (grid[0], change(grid[1])) if columns else (change(grid[0]), grid[1])  # noqa: B023
        ))  # fmt: skip
        check(call, done, precision, against_oracle=False)


@every_case
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


@every_case
def test_what_is_not_finite_is_not_hidden(driver, variant, precision):
    """What comes out is not finite where the formula is not, and nowhere else."""
    if variant.kernel.family == "metric":
        return  # where the largest of NaNs lies is not defined

    def sprinkle(declared, array):
        if not declared.floating or declared.mode == "overwrite":
            return array
        rng = np.random.default_rng(list(declared.name.encode()))
        poison = rng.choice([np.nan, np.inf, -np.inf], array.shape)
        return np.where(rng.random(array.shape) < 0.1, poison, array).astype(array.dtype)

    call = precision.call(variant, "odd").mapped(sprinkle)
    truth = call.in_float64()
    run_reference(truth)
    if not run(driver, call, precision):
        pytest.skip("the library has no such product")
    for declared in variant.kernel.outputs:
        name, array = declared.name, call.named[declared.name]
        if array is not None:
            agree(array, truth.written[name], declared, precision, name)


@every_case
def test_a_loss_that_is_not_finite_holds_updates_back(driver, variant, precision):
    if variant.kernel.family not in ("optimizer", "gradient") and variant.kernel.name != "advance":
        return
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
