"""Products joined with what comes after them: which, with what mask, and what is left alone."""

from dataclasses import replace

import numpy as np
import pytest
from fusing import call_of, kernels, names, plan_of, trainer_of

from gpubp import Activation, Dense, Dropout
from gpubp.plan.fuse import fuse
from gpubp.plan.ir import TRANSIENT
from gpubp.plan.memory import place
from gpubp.plan.verify import verify


def everything(call):
    return True


def lacks(*missing):
    """Return what a backend has that has everything but these kernels."""
    return lambda call: call.kernel not in missing


def fused(*layers, has=everything, **settings):
    plan = fuse(plan_of(*layers, **settings), has)
    verify(plan, place(plan))
    return plan


def test_the_calls_of_two_layers():
    plan = fused(Dense(4, "relu"), Dense(3))
    assert kernels(plan.forward)[3:] == ["matmul_bias_relu", "matmul_bias", "softmax_cross_entropy"]
    assert kernels(plan.backward) == [
        "matmul_bias_grad", "matmul_relu_delta_bias_grad", "matmul",
    ]  # fmt: skip


def test_forward_reads_as_the_derivation():
    plan = fused(Dense(4, "relu"), Dense(3))
    first, second = plan.forward[3:5]
    assert names(first) == ["x", "W1", "b1", "a1", "a1_mask"]
    assert first.formula == "z1 = x W1; z1 += b1; a1 = relu(z1)"
    assert names(second) == ["a1", "W2", "b2", "z2"]
    assert second.formula == "z2 = a1 W2; z2 += b2"


def test_backward_reads_as_the_derivation():
    last, delta, _ = fused(Dense(4, "relu"), Dense(3)).backward
    assert names(last) == ["a1", "dz2", "dW2", "db2"]
    assert last.formula == "db2 = Σ_rows dz2; dW2 = a1ᵀ dz2"
    assert dict(last.scalars) == {"transpose_a": True}
    assert names(delta) == ["dz2", "W2", "a1_mask", "dz1", "db1"]
    assert delta.formula == "da1 = dz2 W2ᵀ; dz1 = da1 ⊙ relu'(a1); db1 = Σ_rows dz1"
    assert dict(delta.scalars) == {"transpose_b": True}


@pytest.mark.parametrize(("units", "length"), [(1, 16), (128, 16), (129, 32), (300, 48)])
def test_a_mask_has_a_bit_an_element_in_rows_of_whole_16_bytes(units, length):
    mask = fused(Dense(units, "relu"), Dense(3)).forward[3].operands[4]
    assert (mask.shape, mask.dtype, mask.region) == ((8, length), "uint8", TRANSIENT)


def test_no_mask_is_made_for_prediction_or_evaluation_or_for_a_layer_of_which_none_is_read():
    trainer = trainer_of(Dense(4, "relu"), Dropout(0.5), Dense(3), has=everything)
    trainer.predict(np.zeros((3, 5), np.float32))
    plans = [trainer.plan(8)]
    plans += [executable.plan for executable in trainer._engine._executables.values()]
    assert len(plans) == 2
    for plan in plans:
        assert call_of(plan.forward, "matmul_bias_relu").operands[4] is None


def test_no_mask_is_made_that_the_backend_could_not_write_or_not_read():
    for has in (
        lacks("matmul_relu_delta_bias_grad", "matmul_relu_delta"),
        lambda call: call.kernel != "matmul_bias_relu" or call.operands[4] is None,
    ):
        plan = fused(Dense(4, "relu"), Dense(3), has=has)
        assert call_of(plan.forward, "matmul_bias_relu").operands[4] is None
        assert "relu_delta_bias_grad" in kernels(plan.backward)


def test_without_the_whole_epilogue_the_bias_gradient_goes_to_the_next_product():
    has = lacks("matmul_relu_delta_bias_grad")
    plan = fused(Dense(4, "relu"), Dense(3), has=has)
    assert kernels(plan.backward) == ["matmul_bias_grad", "matmul_relu_delta", "matmul_bias_grad"]
    _, delta, gradients = plan.backward
    assert names(delta) == ["dz2", "W2", "a1_mask", "dz1"]
    assert delta.formula == "da1 = dz2 W2ᵀ; dz1 = da1 ⊙ relu'(a1)"
    assert names(gradients) == ["x", "dz1", "dW1", "db1"]
    assert gradients.formula == "db1 = Σ_rows dz1; dW1 = xᵀ dz1"


def test_a_bias_gradient_that_no_product_takes_is_a_call():
    has = lacks("matmul_relu_delta_bias_grad", "matmul_bias_grad")
    plan = fused(Dense(4, "relu"), Dense(3), has=has)
    assert kernels(plan.backward) == [
        "bias_grad", "matmul", "matmul_relu_delta", "bias_grad", "matmul",
    ]  # fmt: skip


def test_relu_alone_of_all_activations_joins_a_product():
    plan = fused(Dense(4, "tanh"), Dense(4, "gelu"), Dense(3))
    assert kernels(plan.forward)[3:7] == ["matmul", "bias_tanh", "matmul", "bias_gelu"]
    assert "gelu_delta_bias_grad" in kernels(plan.backward)


def test_a_layer_without_bias_has_no_epilogue():
    plan = plan_of(Dense(4, "relu", bias=False), Dense(3, bias=False))
    assert fuse(plan, everything) == plan


def test_relu_of_a_layer_of_its_own_joins_the_product():
    plan = fused(Dense(4), Activation("relu"), Dense(3))
    assert "matmul_bias_relu" in kernels(plan.forward)
    assert "matmul_relu_delta_bias_grad" in kernels(plan.backward)


def test_dropout_stands_between_a_product_and_the_delta():
    plan = fused(Dense(4, "relu"), Dropout(0.5), Dense(3))
    assert kernels(plan.forward)[3:5] == ["matmul_bias_relu", "dropout"]
    assert kernels(plan.backward)[1:3] == ["matmul", "relu_dropout_delta_bias_grad"]


def watched(plan, buffer):
    """Return a plan with one more call, which reads a buffer."""
    z = next(call.operands[0] for call in plan.forward if call.kernel == "relu")
    other = replace(z, name="other", shape=buffer.shape)
    reader = next(call for call in plan.forward if call.kernel == "relu")
    reader = replace(reader, kernel="tanh", operands=(buffer, other))
    phase = "forward" if buffer.name.startswith("z") else "backward"
    return replace(plan, **{phase: (*getattr(plan, phase), reader)})


def test_a_pre_activation_that_is_read_elsewhere_is_still_written():
    plan = plan_of(Dense(4, "relu"), Dense(3))
    z = next(call.operands[0] for call in plan.forward if call.kernel == "relu")
    reader = watched(plan, z).forward[-1]
    assert "matmul_bias_relu" not in kernels(fuse(watched(plan, z), everything).forward)
    plan = fuse(plan, lambda call: call.kernel == "bias_relu")
    plan = replace(plan, forward=(*plan.forward, reader))
    assert kernels(fuse(plan, everything).forward)[3:5] == ["matmul", "bias_relu"]


def test_a_gradient_that_is_read_elsewhere_is_still_written():
    plan = plan_of(Dense(4, "relu"), Dense(3))
    da = next(call.operands[0] for call in plan.backward if call.kernel == "relu_delta")
    joined = fuse(watched(plan, da), everything)
    assert not any("matmul_relu_delta" in kernel for kernel in kernels(joined.backward))
    assert call_of(joined.forward, "matmul_bias_relu").operands[4] is None


def test_a_product_that_adds_to_its_result_keeps_it():
    plan = plan_of(Dense(4, "relu"), Dense(3))
    adding = tuple(
        replace(call, scalars=(*call.scalars, ("accumulate", True)))
        if call.kernel == "matmul"
        else call
        for call in plan.calls
    )
    cut = len(plan.forward), len(plan.forward) + len(plan.backward)
    plan = replace(plan, forward=adding[: cut[0]], backward=adding[cut[0] : cut[1]])
    assert not any(k.startswith("matmul_") for k in kernels(fuse(plan, everything).calls))
