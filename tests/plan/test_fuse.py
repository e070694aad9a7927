"""Fusion: which pairs of calls become one, which must not, and that no result changes."""

from dataclasses import replace

import numpy as np
import pytest
from networks import data, make

from gpubp import Activation, Dense, Dropout, Sequential, Trainer
from gpubp.backends.numba import NumbaBackend
from gpubp.backends.numpy import NumpyBackend
from gpubp.kernels.spec import ACTIVATIONS, ELEMENTWISE
from gpubp.plan.fuse import fuse


def plan_of(*layers):
    """Return a training plan as it is lowered, nothing fused."""
    trainer = Trainer(Sequential(*layers), backend="numpy")
    trainer.initialize(5)
    return trainer.plan(8)


def kernels(calls):
    return [call.kernel for call in calls]


def fused(plan, has=lambda name: True):
    return fuse(plan, has)


def test_bias_and_activation_become_one_call():
    plan = fused(plan_of(Dense(4, "relu"), Dense(3)))
    assert kernels(plan.forward)[3:] == [
        "matmul", "bias_relu", "matmul", "bias_add", "softmax_cross_entropy",
    ]  # fmt: skip
    call = plan.forward[4]
    assert [str(buffer) for buffer in call.operands] == ["z1[8,4]", "b1[4]", "a1[8,4]"]
    assert call.formula == "z1 += b1; a1 = relu(z1)"


def test_delta_and_bias_gradient_become_one_call():
    plan = fused(plan_of(Dense(4, "relu"), Dense(3)))
    assert kernels(plan.backward) == [
        "bias_grad", "matmul", "matmul", "relu_delta_bias_grad", "matmul",
    ]  # fmt: skip
    call = plan.backward[3]
    assert [b.name for b in call.operands] == ["da1", "a1", "dz1", "db1"]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_every_elementwise_activation_but_identity_is_fused_both_ways(name):
    plan = fused(plan_of(Dense(4, name), Dense(3)))
    both = {f"bias_{name}", f"{name}_delta_bias_grad"}
    assert both <= {*kernels(plan.calls)} or name == "identity"


def test_an_activation_of_its_own_layer_is_fused_too():
    plan = fused(plan_of(Dense(4), Activation("tanh"), Dense(3)))
    assert "bias_tanh" in kernels(plan.forward)
    assert "tanh_delta_bias_grad" in kernels(plan.backward)


def test_rows_that_belong_together_are_not_fused():
    """softmax works on whole rows: there is no kernel that adds a bias before it."""
    plan = plan_of(Dense(4, "softmax"), Dense(3))
    assert fused(plan) == plan


def test_a_layer_without_bias_has_nothing_to_fuse():
    plan = plan_of(Dense(4, "relu", bias=False), Dense(3, bias=False))
    assert fused(plan) == plan


def test_dropout_between_delta_and_bias_gradient_is_no_activation():
    plan = fused(plan_of(Dense(4), Dropout(0.5), Dense(3)))
    assert "dropout_delta" in kernels(plan.backward)
    assert "bias_grad" in kernels(plan.backward)[-2:]


def test_only_what_the_backend_has_is_fused():
    plan = plan_of(Dense(4, "relu"), Dense(3))
    assert fused(plan, lambda name: False) == plan
    some = fused(plan, lambda name: name == "bias_relu")
    assert "bias_relu" in kernels(some.forward)
    assert some.backward == plan.backward


def test_a_pre_activation_that_is_read_elsewhere_keeps_its_bias():
    """bias_relu leaves z as it was without the bias: a third reader of z forbids it."""
    plan = plan_of(Dense(4, "relu"), Dense(3))
    activation = next(call for call in plan.forward if call.kernel == "relu")
    z, a = activation.operands
    reader = replace(activation, kernel="tanh", operands=(z, replace(a, name="other")))
    watched = replace(plan, forward=(*plan.forward, reader))
    assert "bias_relu" not in kernels(fused(watched).forward)


def test_a_pre_activation_that_backward_reads_is_left_with_its_bias():
    """gelu's slope needs z: bias_gelu writes it, so that fusion is allowed whoever reads."""
    plan = fused(plan_of(Dense(4, "gelu"), Dense(3)))
    call = next(call for call in plan.forward if call.kernel == "bias_gelu")
    assert call.operands[0] in tuple(call.writes())


def test_calls_that_only_stand_beside_each_other_are_not_fused():
    plan = plan_of(Dense(4, "relu"), Dense(3))
    relu, bias_grad = plan.forward[5], plan.backward[4]
    assert (relu.kernel, bias_grad.kernel) == ("relu", "bias_grad")
    apart = replace(
        plan,
        forward=(*plan.forward[:5], of_another(relu)),
        backward=(*plan.backward[:4], of_another(bias_grad)),
    )
    assert fused(apart) == apart


def of_another(call):
    """Return the same call on a first operand that has nothing to do with the call before."""
    first, *rest = call.operands
    return replace(call, operands=(replace(first, name="other"), *rest))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(("way", "backend"), [("numpy", NumpyBackend), ("numba-1", NumbaBackend)])
def test_results_are_the_same_fused_and_not(way, backend, name, monkeypatch):
    results = []
    X, y = data(dtype=np.float64)
    for fuses in (True, False):
        monkeypatch.setattr(backend, "has", lambda self, kernel, fuses=fuses: fuses)
        trainer = make(
            way, Dense(7, name), Dropout(0.2), Dense(6, name), Dense(3), precision="fp64"
        )
        trainer.fit(X, y, epochs=2, batch_size=8)
        pairs = [k for k in kernels(trainer.plan(8).calls) if k.endswith("_delta_bias_grad")]
        assert bool(pairs) == (fuses and name in ELEMENTWISE and name != "identity")
        results.append(trainer.parameters())
    np.testing.assert_allclose(*results, rtol=1e-12, atol=1e-13)
