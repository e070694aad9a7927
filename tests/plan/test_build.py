"""What the builder gives layers: padded parameters, and two precisions where one is bfloat16."""

import numpy as np
import pytest
from fusing import FusingBackend, kernels, names
from hypothesis import given
from hypothesis import strategies as st
from networks import data

from gpubp import Activation, Dense, Dropout, Sequential, Trainer
from gpubp.kernels import bfloat16
from gpubp.kernels.contract import size
from gpubp.losses import LOSSES
from gpubp.optimizers import OPTIMIZERS
from gpubp.plan import build
from gpubp.plan.build import Builder, Inputs, Parameter, ParameterLayout, Regularization, Rows
from gpubp.plan.fuse import fuse
from gpubp.plan.ir import GRADS, PARAMS, ROUNDED
from gpubp.plan.memory import place
from gpubp.plan.verify import verify

shapes = st.lists(st.integers(1, 40), min_size=1, max_size=2).map(tuple)


@given(st.lists(st.tuples(shapes, st.booleans()), min_size=1), st.sampled_from((1, 16, 128)))
def test_parameters_start_at_multiples_of_the_alignment(described, alignment):
    parameters = [
        Parameter(f"W{i}", shape, decays, "zeros") for i, (shape, decays) in enumerate(described)
    ]
    layout = ParameterLayout(parameters, alignment)
    assert layout.count == sum(size(shape) for shape, _ in described)
    assert layout.size >= layout.count
    assert layout.size % alignment == layout.decaying % alignment == 0
    end = 0
    for parameter in layout.parameters:
        start = layout.offsets[parameter.name]
        assert start % alignment == 0
        assert end <= start < end + alignment
        assert (start < layout.decaying) == parameter.decays
        end = start + size(parameter.shape)
    assert end <= layout.size < end + alignment


LAYERS = Dense(40, "relu"), Dropout(0.2), Dense(30, "gelu"), Dense(20, "relu"), Dense(3)


def lowered(*layers, optimizer="adamw", loss="softmax_cross_entropy", kind="training", **options):
    """Return a bfloat16 plan with padded parameters, verified, and its builder."""
    inputs = Inputs(5, "float32", "labels", weights_dtype="float32")
    if loss != "softmax_cross_entropy":
        inputs = Inputs(5, "float64", "values", 3, "float32")
    layout = ParameterLayout(Sequential(*layers).parameters(5), 128)
    builder = Builder(layout, "bfloat16", Rows(8), inputs, training=kind == "training")
    loss = LOSSES.get(loss)
    plan = {
        "training": lambda: build.training_plan(
            layers, loss, OPTIMIZERS.get(optimizer), builder, Regularization(**options)
        ),
        "evaluation": lambda: build.evaluation_plan(layers, loss, builder, indexed=False),
        "prediction": lambda: build.prediction_plan(layers, loss, builder),
        "output": lambda: build.prediction_plan(layers, None, builder),
    }[kind]()
    verify(plan, place(plan, alignment=128), alignment=128)
    return plan


def buffer(plan, name, region=None):
    """Return the one buffer of a name."""
    (found,) = {b for b in plan.buffers if b.name == name and region in (None, b.region)}
    return found


def test_what_is_bfloat16_and_what_is_wide():
    plan = lowered(*LAYERS, l2=0.1, clip_norm=1.0)
    narrow = {b.name for b in plan.buffers if b.dtype == "bfloat16"}
    wide = {b.name for b in plan.buffers if b.dtype == "float32" and b.region != "data"}
    assert narrow >= {"x", "W1", "W5", "b1", "z1", "a1", "a4", "dz5", "dz1", ROUNDED}
    assert wide >= {"z5", "b5", "w", "dW1", "db1", "dW5", GRADS, PARAMS}
    assert not narrow & wide
    assert plan.dtype == "bfloat16"


def test_a_rounded_parameter_lies_where_the_parameter_does():
    plan = lowered(*LAYERS)
    for name in ("W1", "W3", "b1"):
        rounded, gradient = buffer(plan, name), buffer(plan, f"d{name}")
        assert (rounded.region, gradient.region) == (ROUNDED, GRADS)
        assert (rounded.offset, rounded.shape) == (gradient.offset, gradient.shape)
    assert buffer(plan, "b5").region == PARAMS  # it is added to what is not rounded


def test_the_parameters_are_rounded_after_each_update():
    plan = lowered(*LAYERS, optimizer="adam")
    assert kernels(plan.update) == ["adam", "round_bfloat16", "advance"]
    assert plan.update[1].formula == "rounded = bfloat16(params)"
    assert names(plan.update[1]) == [PARAMS, ROUNDED]
    assert "8 rows, bfloat16" in str(plan)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_fused_the_rounding_is_part_of_the_update(optimizer):
    plan = fuse(lowered(*LAYERS, optimizer=optimizer, l2=0.1, clip_value=1.0), lambda call: True)
    verify(plan, place(plan), alignment=128)
    assert kernels(plan.update) == [f"{optimizer}_update", "advance"]
    assert plan.update[0].named()["rounded"].region == ROUNDED


@pytest.mark.parametrize("kind", ["training", "evaluation", "prediction", "output"])
@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize(
    "layers",
    [
        LAYERS,
        (Dense(4, "tanh"), Dense(3, "relu")),
        (Dense(4), Activation("softplus"), Dense(3), Dropout(0.5)),
        (Dense(3, bias=False), Activation("identity")),
    ],
    ids=["plain", "activated", "dropped", "identity"],
)
@pytest.mark.parametrize("fuses", [False, True])
def test_any_network_can_be_lowered(layers, loss, kind, fuses):
    plan = fuse(lowered(*layers, loss=loss, kind=kind), lambda call: fuses)
    verify(plan, place(plan), alignment=128)
    if kind in ("prediction", "output"):
        assert plan.data()["out"].dtype == "float32"


@pytest.mark.parametrize("fuses", [False, True])
def test_training_in_bfloat16_comes_near_to_float32(fuses):
    X, y = data(rows=200)
    losses = []
    for precision in ("fp32", "bf16"):
        trainer = Trainer(
            Sequential(*LAYERS), backend="numpy", optimizer="adamw", clip_norm=1.0,
            precision=precision,
        )  # fmt: skip
        if precision == "bf16":
            trainer._backend = FusingBackend(lambda call: fuses)
        trainer.fit(X, y, epochs=10, batch_size=32)
        losses.append(trainer.evaluate(X, y)["loss"])
    start = np.log(3)
    assert losses[0] < 0.5 * start
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    master, rounded = (trainer._engine.vectors[name] for name in (PARAMS, ROUNDED))
    np.testing.assert_array_equal(rounded, bfloat16.from_float32(master))
    assert (master != bfloat16.to_float32(rounded)).any()
