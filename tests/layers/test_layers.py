"""Layers: their widths, parameters and calls, forward and back."""

import numpy as np
import pytest
from networks import data

from gpubp import Activation, Dense, Dropout, Sequential, Trainer, check_gradients
from gpubp.kernels.spec import ACTIVATIONS, KERNELS
from gpubp.layers import LAYERS
from gpubp.plan.build import Builder, Inputs, Rows
from gpubp.plan.ir import TRANSIENT, Buffer
from gpubp.streams import of_layers

EXAMPLES = [
    Dense(4), Dense(4, "tanh", "he_normal", bias=False, decays=False), Dense(1, "softmax"),
    Dropout(0.0), Dropout(0.25), Activation("relu"), Activation("log_softmax"),
]  # fmt: skip
every_layer = pytest.mark.parametrize("layer", EXAMPLES, ids=lambda layer: layer.brief())

x = Buffer("x", (8, 3), "float32", TRANSIENT)


def builder(layer, *, training=True):
    """Return a builder for a network of this layer, as the second one, on 3 inputs."""
    layout = Sequential(layer).layout(3) if layer.trained else Sequential(Dense(2)).layout(3)
    build = Builder(layout, "float32", Rows(8), Inputs(3, "float32"), training=training)
    build.streams = list(of_layers([layer.draws]))
    return build


def calls(layer, *, training=True, wanted=True):
    """Return the formulas of a layer's calls, forward and back, and the gradient passed on."""
    build = builder(layer, training=training)
    a = layer.forward(build, 1, x)
    forward = [call.formula for call in build.calls["forward"]]
    build.phase = "backward"
    da = Buffer(f"d{a.name}", a.shape, a.dtype, a.region)
    passed = layer.backward(build, 1, x, a, da, wanted)
    return forward, [call.formula for call in build.calls["backward"]], passed


def test_the_table_of_examples_is_complete():
    assert {LAYERS.name_of(layer) for layer in EXAMPLES} == {*LAYERS}


@every_layer
def test_a_configuration_is_json_and_makes_the_layer_again(layer):
    config = LAYERS.config(layer)
    assert LAYERS.from_config(config) == layer
    assert {type(value) for value in config.values()} <= {str, int, float, bool}


@every_layer
def test_the_output_has_the_width_that_was_said(layer):
    a = layer.forward(builder(layer), 1, x)
    assert a.shape == (8, layer.width(3))
    assert (a.dtype, a.region) == ("float32", TRANSIENT)


@every_layer
def test_backward_passes_on_a_gradient_of_the_inputs_shape_if_it_is_wanted(layer):
    *_, passed = calls(layer)
    assert passed.shape == x.shape
    forward, backward, passed = calls(layer, wanted=False)
    assert passed is None
    assert not any("dx" in formula for formula in forward + backward)


@every_layer
def test_backward_writes_the_gradient_of_every_parameter(layer):
    build = builder(layer)
    a = layer.forward(build, 1, x)
    build.phase = "backward"
    layer.backward(build, 1, x, a, Buffer("da", a.shape, a.dtype, a.region), False)
    written = {buffer.name for call in build.calls["backward"] for buffer in call.writes()}
    assert {f"d{parameter.name}" for parameter in layer.parameters(1, 3)} <= written


def test_the_calls_of_dense():
    forward, backward, _ = calls(Dense(4, "tanh"))
    assert forward == ["z1 = x W1", "z1 += b1", "a1 = tanh(z1)"]
    assert backward == [
        "dz1 = da1 ⊙ tanh'(a1)", "db1 = Σ_rows dz1", "dW1 = xᵀ dz1", "dx = dz1 W1ᵀ",
    ]  # fmt: skip


def test_the_calls_of_dense_without_bias_and_activation():
    forward, backward, _ = calls(Dense(4, bias=False))
    assert forward == ["z1 = x W1"]
    assert backward == ["dW1 = xᵀ dz1", "dx = dz1 W1ᵀ"]


def test_the_parameters_of_dense():
    weight, bias = Dense(4, "relu").parameters(7, 3)
    assert (weight.name, weight.shape, weight.decays) == ("W7", (3, 4), True)
    assert (bias.name, bias.shape, bias.decays) == ("b7", (4,), False)
    assert weight.initializer.startswith("he")
    assert bias.initializer == "zeros"
    (alone,) = Dense(4, initializer="orthogonal", bias=False, decays=False).parameters(1, 3)
    assert (alone.initializer, alone.decays) == ("orthogonal", False)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_slope_of_an_activation_is_taken_of_what_its_kernel_saves(name):
    _, backward, _ = calls(Activation(name))
    saved = "".join({"z": "x", "a": "a1"}[operand] for operand in KERNELS[name].saved)
    assert backward == [f"dx = da1 ⊙ {name}'({saved})"]


@pytest.mark.parametrize("training", [True, False])
def test_dropout_of_nothing_and_dropout_in_use_are_no_calls(training):
    layer = Dropout(0.0 if training else 0.5)
    build = builder(layer, training=training)
    assert layer.forward(build, 1, x) is x
    assert build.calls["forward"] == []


@pytest.mark.parametrize(
    "layers",
    [
        (Dense(4, "tanh"), Dropout(0.3), Dense(3)),
        (Dropout(0.3), Dense(4), Activation("silu"), Dropout(0.0), Dense(3, bias=False)),
        (Activation("softplus"), Activation("tanh"), Dense(3, "gelu"), Activation("identity")),
        (Dense(3, "softmax"), Activation("elu"), Dropout(0.5)),
    ],
    ids=lambda layers: "-".join(map(LAYERS.name_of, layers)),
)
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_layers_in_any_order_have_the_gradient_of_central_differences(layers, backend):
    X, y = data(features=3, dtype=np.float64)
    report = check_gradients(Sequential(*layers), "softmax_cross_entropy", X, y, backend=backend)
    assert report.passed, str(report)


def test_dropout_scales_what_it_keeps():
    """In expectation the output is the input: a large mean stays where it is."""
    X = np.ones((400, 50), np.float32)
    trainer = Trainer(
        Sequential(Dropout(0.3), Dense(1, bias=False)), loss="squared_error", optimizer="sgd",
        backend="numpy",
    )  # fmt: skip
    trainer.initialize(50)
    trainer.set_named_parameters({"W2": np.zeros((50, 1))})
    trainer.fit(X, np.ones(400, np.float32), batch_size=400)
    kept = -trainer.named_gradients()["W2"]  # the mean of each column of the masked input
    assert kept.mean() == pytest.approx(1, abs=0.01)
    assert np.abs(kept - 1).max() < 0.2
