"""Every elementwise kernel at the edges of its dtype, on the device (see edges.py)."""

from functools import partial

import edges
import pytest
from cuda_calls import run


def each(kernels):
    return pytest.mark.parametrize(("kernel", "working"), edges.edges(kernels))


@each([k for name in edges.ACTIVATIONS for k in edges.kernels_of(name)])
def test_activations(driver, kernel, working):
    edges.check_activation(partial(run, driver), kernel, working)


@each(edges.LOSSES)
def test_losses(driver, kernel, working):
    edges.check_loss(partial(run, driver), kernel, working)


@each([kernel for name in edges.OPTIMIZERS for kernel in (name, f"{name}_update")])
def test_optimizers(driver, kernel, working):
    edges.check_optimizer(partial(run, driver), kernel, working)
