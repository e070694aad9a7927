"""Fusion of elementwise passes: which calls become one, which must not. Of products and the update
see test_epilogues.py and test_update.py; that no result changes, test_fused_results.py."""

from dataclasses import replace

import pytest
from fusing import kernels, plan_of

from gpubp import Activation, Dense, Dropout
from gpubp.kernels.spec import ELEMENTWISE
from gpubp.plan.fuse import fuse


def elementwise(call):
    """What a backend has whose products are plain."""
    return not call.kernel.startswith("matmul_")


def fused(plan, has=elementwise):
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


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_dropout_joins_the_activation_beside_it_both_ways(name):
    plan = fused(plan_of(Dense(4, name), Dropout(0.5), Dense(3)))
    both = {f"bias_{name}_dropout", f"{name}_dropout_delta_bias_grad"}
    assert both <= {*kernels(plan.calls)} or name == "identity"


def test_the_operands_of_activation_and_dropout():
    plan = fused(plan_of(Dense(4, "tanh"), Dropout(0.25), Dense(3)))
    forward = next(call for call in plan.forward if call.kernel == "bias_tanh_dropout")
    assert [b.name for b in forward.operands] == ["z1", "b1", "seed", "step", "a1", "a2"]
    assert dict(forward.scalars).keys() == {"rate", "stream", "first"}
    assert forward.formula == "z1 += b1; a1 = tanh(z1); a2 = a1 ⊙ m2 / 0.75"
    back = next(call for call in plan.backward if call.kernel == "tanh_dropout_delta_bias_grad")
    assert [b.name for b in back.operands] == ["da2", "a1", "seed", "step", "dz1", "db1"]
    assert back.scalars == forward.scalars
    assert (
        back.formula == "da1_kept = da2 ⊙ m2 / 0.75; dz1 = da1_kept ⊙ tanh'(a1); db1 = Σ_rows dz1"
    )


def test_a_gradient_behind_dropout_that_is_read_elsewhere_is_still_written():
    plan = plan_of(Dense(4, "tanh"), Dropout(0.25), Dense(3))
    kept = next(call.operands[-1] for call in plan.backward if call.kernel == "dropout_delta")
    reader = next(call for call in plan.backward if call.kernel == "bias_grad")
    reader = replace(reader, operands=(kept, replace(reader.operands[1], name="other")))
    watched = fused(replace(plan, backward=(*plan.backward, reader)))
    assert kernels(watched.backward).count("dropout_delta") == 1
    assert "tanh_delta_bias_grad" in kernels(watched.backward)


def test_a_gradient_that_a_product_made_is_no_delta():
    """matmul_bias_grad is the bias gradient of the product's operand, not of its result."""
    plan = fused(plan_of(Dense(4), Dense(3)), lambda call: True)
    assert kernels(plan.backward) == ["matmul_bias_grad", "matmul", "matmul_bias_grad"]
    assert [b.name for b in plan.backward[2].operands] == ["x", "dz1", "dW1", "db1"]


def test_only_what_the_backend_has_is_fused():
    plan = plan_of(Dense(4, "relu"), Dense(3))
    assert fused(plan, lambda call: False) == plan
    some = fused(plan, lambda call: call.kernel == "bias_relu")
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
