"""The update as one pass: what joins the optimizer's call, in what order, and what cannot."""

from dataclasses import replace

import pytest
from fusing import kernels, names, plan_of

from gpubp import Dense
from gpubp.optimizers import OPTIMIZERS
from gpubp.plan.update import join_update

LAYERS = Dense(4, "tanh"), Dense(3)  # 32 weights and 7 biases
every_optimizer = pytest.mark.parametrize("name", sorted(OPTIMIZERS))


def update(**settings):
    return plan_of(*LAYERS, **settings).update


def joined(calls, has=lambda call: True):
    return join_update(calls, has)


@every_optimizer
def test_penalties_and_clipping_join_the_optimizer(name):
    calls = joined(update(optimizer=name, l1=0.1, l2=0.2, clip_value=0.5))
    assert kernels(calls) == [f"{name}_update", "advance"]
    values = dict(calls[0].scalars)
    assert values["l1"], values["l2"] == (0.1, 0.2)
    assert (values["decaying"], values["clip_value"]) == (32, 0.5)
    assert "clip_norm" not in values
    named = calls[0].named()
    assert named["grads"].shape == named["params"].shape == (39,)
    assert named["squares"] is None
    assert named["rounded"] is None


def test_the_formula_is_that_of_all_the_calls():
    (call, _) = joined(update(optimizer="sgd", l2=0.2, clip_value=0.5))
    assert call.formula == "g += 0.2 W; g = min(max(g, -0.5), 0.5); w -= η g"


def test_a_norm_is_of_the_gradient_with_its_penalties():
    """The sum of squares stays a call, and so does what must come before it."""
    calls = joined(update(optimizer="adam", l2=0.2, clip_value=0.5, clip_norm=2.0))
    assert kernels(calls) == [
        "l2_penalty", "clip_value", "sum_of_squares", "adam_update", "advance",
    ]  # fmt: skip
    assert names(calls[3])[:4] == ["grads", "lr", "step", "squares"]
    assert dict(calls[3].scalars)["clip_norm"] == 2.0
    assert "clip_value" not in dict(calls[3].scalars)


@every_optimizer
def test_an_optimizer_alone_stays_as_it_is(name):
    if name == "adamw":
        return
    calls = update(optimizer=name)
    assert joined(calls) == calls


def test_the_two_calls_of_adamw_are_one_update():
    calls = update(optimizer="adamw")
    assert kernels(calls) == ["adamw", "adam", "advance"]
    after = joined(calls)
    assert kernels(after) == ["adamw_update", "advance"]
    assert dict(after[0].scalars)["decaying"] == 32
    assert [str(b) for b in after[0].operands[4:7]] == ["m[39]", "v[39]", "params[39]"]


def test_adamw_where_nothing_decays_is_adam():
    plan = plan_of(Dense(3, decays=False), optimizer="adamw", clip_value=1.0)
    (call, _) = joined(plan.update)
    assert call.kernel == "adam_update"
    assert dict(call.scalars).get("decaying", 0) == 0


def test_adamw_where_all_decays():
    plan = plan_of(Dense(3, bias=False), optimizer="adamw", clip_value=1.0, l2=0.1)
    (call, _) = joined(plan.update)
    assert call.kernel == "adamw_update"
    assert dict(call.scalars)["decaying"] == 15


def test_only_what_the_backend_has_is_joined():
    calls = update(optimizer="sgd", l2=0.2)
    assert joined(calls, lambda call: False) == calls
    asked = []
    joined(calls, asked.append)
    assert kernels(asked) == ["sgd_update"]


def test_a_penalty_on_other_parameters_than_those_that_decay_stays():
    first, *rest = update(optimizer="adamw", l2=0.2)
    params, grads = (replace(buffer, shape=(20,)) for buffer in first.operands)
    calls = (replace(first, operands=(params, grads)), *rest)
    assert kernels(joined(calls)) == ["l2_penalty", "adamw_update", "advance"]


def test_clipping_before_a_penalty_stays_before_it():
    penalty, clipping, *rest = update(optimizer="sgd", l2=0.2, clip_value=0.5)
    assert (penalty.kernel, clipping.kernel) == ("l2_penalty", "clip_value")
    assert kernels(joined((clipping, penalty, *rest))) == ["clip_value", "sgd_update", "advance"]


def test_a_penalty_that_comes_twice_is_not_forgotten():
    penalty, *rest = update(optimizer="sgd", l2=0.2)
    assert kernels(joined((penalty, penalty, *rest))) == ["l2_penalty", "sgd_update", "advance"]


def test_a_plan_without_an_optimizer_has_nothing_to_join():
    assert joined(()) == ()
