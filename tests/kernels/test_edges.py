"""Every elementwise kernel at the edges of its dtype, on the backends of the CPU (see edges.py)."""

from functools import partial

import edges
import pytest
from cpu_calls import WAYS, run

every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


def each(kernels):
    return pytest.mark.parametrize(("kernel", "working"), edges.edges(kernels))


@every_way
@each([k for name in edges.ACTIVATIONS for k in edges.kernels_of(name)])
def test_activations(way, kernel, working):
    edges.check_activation(partial(run, way), kernel, working)


@every_way
@each(edges.LOSSES)
def test_losses(way, kernel, working):
    edges.check_loss(partial(run, way), kernel, working)


@every_way
@each([kernel for name in edges.OPTIMIZERS for kernel in (name, f"{name}_update")])
def test_optimizers(way, kernel, working):
    edges.check_optimizer(partial(run, way), kernel, working)


@every_way
@each(edges.GRADIENTS)
def test_gradients(way, kernel, working):
    edges.check_gradient(partial(run, way), kernel, working)


@every_way
@pytest.mark.parametrize("working", edges.WIDE)
def test_squares(way, working):
    edges.check_squares(partial(run, way), working)


@every_way
@pytest.mark.parametrize("working", edges.WIDE)
def test_labels_that_are_no_classes(way, working):
    edges.check_labels(partial(run, way), working)
