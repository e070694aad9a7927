"""Every elementwise kernel at the edges of its dtype, on the device (see edges.py)."""

from functools import partial

import edges
import numpy as np
import pytest
from cuda_calls import run
from precisions import Precision
from runners import evaluate

from gpubp.kernels.spec import KERNELS


def flushed(driver):
    """Whether the device takes subnormal numbers for 0: a GPU does, as CuPy compiles for it."""
    return not hasattr(driver, "machine")


def each(kernels):
    return pytest.mark.parametrize(("kernel", "working"), edges.edges(kernels))


@each([k for name in edges.ACTIVATIONS for k in edges.kernels_of(name)])
def test_activations(driver, kernel, working):
    edges.check_activation(partial(run, driver), kernel, working, flushed(driver))


@each(edges.LOSSES)
def test_losses(driver, kernel, working):
    edges.check_loss(partial(run, driver), kernel, working, flushed(driver))


@each([kernel for name in edges.OPTIMIZERS for kernel in (name, f"{name}_update")])
def test_optimizers(driver, kernel, working):
    edges.check_optimizer(partial(run, driver), kernel, working, flushed(driver))


@each(edges.GRADIENTS)
def test_gradients(driver, kernel, working):
    edges.check_gradient(partial(run, driver), kernel, working, flushed(driver))


@pytest.mark.parametrize("working", edges.WIDE)
def test_squares(driver, working):
    edges.check_squares(partial(run, driver), working, flushed(driver))


@pytest.mark.parametrize("working", edges.WIDE)
def test_labels_that_are_no_classes(driver, working):
    edges.check_labels(partial(run, driver), working)


@pytest.mark.parametrize("name", [k.name for k in KERNELS.values() if k.family == "loss"])
def test_a_row_without_weight_is_left_out(driver, name):
    rng = np.random.default_rng(0)
    z, t = rng.random((2, 9, 4)).astype("float32")
    weights, labels = rng.uniform(0.5, 2, 9).astype("float32"), rng.integers(0, 4, 9)
    weights[::3] = 0
    kept = weights != 0
    z[~kept], t[~kept] = np.nan, np.inf
    target = KERNELS[name].operands[1].name
    values = {"t": t, "labels": labels}[target]
    work = partial(run, driver, precision=Precision("float32"))
    whole = evaluate(work, name, z=z, weights=weights, **{target: values})
    alone = {"z": z[kept], "weights": weights[kept], target: values[kept]}
    alone = evaluate(work, name, **alone)
    np.testing.assert_allclose(whole["loss"], alone["loss"], rtol=1e-6)
    np.testing.assert_allclose(whole["dz"][kept], alone["dz"], rtol=1e-6)
    assert (whole["dz"][~kept] == 0).all()


@pytest.mark.parametrize("size", [1e25, 1e-25, 1e38])
def test_a_gradient_of_any_size_is_clipped_to_its_norm(driver, size):
    work = partial(run, driver, precision=Precision("float32"))
    grads = np.array([3, -4, 0], "float32") * np.float32(size / 5)
    squares = evaluate(work, "sum_of_squares", x=grads)["total"]
    for limit in (1.0, 1e-30):
        right = grads.astype("float64") * min(1, limit / size)
        values = {"squares": squares, "grads": grads.copy()}
        clipped = evaluate(work, "clip_norm", limit=limit, **values)["grads"]
        np.testing.assert_allclose(clipped, right, rtol=1e-6)
        values |= {"lr": np.ones(1), "params": np.zeros_like(grads), "grads": grads.copy()}
        updated = evaluate(work, "sgd_update", clip_norm=limit, **values)["params"]
        np.testing.assert_allclose(updated, -right, rtol=1e-6)


def test_a_norm_beyond_float64_is_not_hidden(driver):
    work = partial(run, driver, precision=Precision("float64"))
    values = {"squares": np.array([np.inf]), "grads": np.array([1e200, 1.0])}
    assert np.isnan(evaluate(work, "clip_norm", limit=1.0, **values)["grads"]).all()


def test_losses_are_summed_in_float64(driver):
    """Of 3,000 finite ones float32 has not the sum; nor has it 1,999 small ones beside a large."""
    work = partial(run, driver, precision=Precision("float32"))
    z, t = np.full((3000, 1), 2e19, np.float32), np.zeros((3000, 1), np.float32)
    loss = evaluate(work, "squared_error", z=z, t=t)["loss"]
    np.testing.assert_allclose(loss, 3000 * 0.5 * float(z[0, 0]) ** 2, rtol=1e-6)
    z = np.ones((2000, 1), np.float32)
    z[0] = 2**30
    assert evaluate(work, "absolute_error", z=z, t=t[:2000])["loss"] == 2**30 + 1999


@pytest.mark.parametrize("gap", [0.5, 12.0, 17.0, 40.0])
def test_the_loss_of_a_row_that_is_nearly_right_keeps_its_digits(driver, gap):
    work = partial(run, driver, precision=Precision("float32"))
    z = np.array([[-gap, 0]], np.float32)
    right = np.log1p(np.exp(-gap))
    loss = evaluate(work, "softmax_cross_entropy", z=z, labels=np.array([1]))["loss"]
    np.testing.assert_allclose(loss, right, rtol=1e-6)
    a = evaluate(work, "log_softmax", z=z)["a"]
    np.testing.assert_allclose(a, [[-gap - right, -right]], rtol=1e-6)
