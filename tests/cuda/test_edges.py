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
