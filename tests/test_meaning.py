"""Networks, losses and targets that mean nothing together are refused; odd ones are warned of."""

from __future__ import annotations

import numpy as np
import pytest

from gpubp import Activation, Dense, Dropout, Sequential, Trainer
from gpubp.errors import InputError

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
SOFTMAX, SIGMOID = "softmax_cross_entropy", "sigmoid_cross_entropy"

REFUSED = {
    "softmax loss of one output": ([Dense(1)], SOFTMAX, "use loss='sigmoid_cross_entropy'"),
    "softmax of one unit": ([Dense(1, "softmax"), Dense(2)], SOFTMAX, "a softmax of one unit"),
    "two softmaxes": (
        [Dense(3, "softmax"), Dropout(0.1), Activation("softmax")], "squared_error",
        "is a softmax already",
    ),
    "softmax before its loss": ([Dense(3, "softmax")], SOFTMAX, "ends with softmax; leave"),
    "with dropout between": ([Dense(3, "softmax"), Dropout(0.2)], SOFTMAX, "ends with softmax"),
    "sigmoid before its loss": ([Dense(1, "sigmoid")], SIGMOID, "ends with sigmoid; leave"),
    "a layer of its own": ([Dense(1), Activation("sigmoid")], SIGMOID, "ends with sigmoid"),
    "exponential before poisson": ([Dense(1, "exponential")], "poisson", "ends with exponential"),
}  # fmt: skip


@pytest.mark.parametrize(("layers", "loss", "said"), REFUSED.values(), ids=REFUSED)
def test_what_means_nothing_is_refused(layers, loss, said) -> None:
    with pytest.raises(InputError, match=said):
        Trainer(Sequential(*layers), loss, backend="numpy")


@pytest.mark.parametrize("function", ["relu", "tanh", "sigmoid", "softplus", "log_softmax"])
@pytest.mark.parametrize(("loss", "outputs"), [(SOFTMAX, 3), (SIGMOID, 2)])
def test_logits_of_a_limited_range_are_warned_of(function, loss, outputs) -> None:
    if (function, loss) == ("sigmoid", SIGMOID):
        return  # refused
    with pytest.warns(UserWarning, match=f"but the network ends with {function}, so") as caught:
        Trainer(Sequential(Dense(outputs, function)), loss, backend="numpy")
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("function", "low", "high"),
    [("relu", -1, 1), ("sigmoid", 0, 2), ("tanh", -1.5, 0), ("softplus", -1, 3), ("softmax", 0, 9)],
)
def test_targets_out_of_reach_are_warned_of(function, low, high) -> None:
    y = np.linspace(low, high, 40).reshape(20, 2)
    trainer = Trainer(Sequential(Dense(2, function)), "squared_error", backend="numpy")
    with pytest.warns(UserWarning, match=f"the network ends with {function}, whose values lie"):
        trainer.fit(X, y)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "huber"])
@pytest.mark.parametrize(("low", "high"), [(-2e5, 3e5), (1990, 2020), (0, 1e-6), (-1e-4, 1e-9)])
def test_targets_of_another_size_than_outputs_are_advised_on(loss, low, high) -> None:
    y = np.linspace(low, high, 20)
    trainer = Trainer(Sequential(Dense(1)), loss, backend="numpy")
    with pytest.warns(UserWarning, match=r"train on \(y - mean\) / std of the targets") as caught:
        trainer.fit(X, y)
    assert f"values from {low:g} to {high:g}" in str(caught[0].message)
    assert caught[0].filename == __file__
    trainer.fit(X, (y - y.mean()) / y.std())
    trainer.evaluate(X, y)


def test_what_rows_of_weight_0_have_does_not_matter() -> None:
    y, weights = np.linspace(-1, 1, 20), np.ones(20)
    y[3], weights[3] = 1e20, 0.0
    Trainer(Sequential(Dense(1)), "squared_error", backend="numpy").fit(X, y, sample_weight=weights)
    weights[3] = 1e-9
    with pytest.warns(UserWarning, match=r"y has values from -1 to 1e\+20"):
        Trainer(Sequential(Dense(1)), "absolute_error", backend="numpy").fit(
            X, y, sample_weight=weights
        )


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_one_class_in_one_hot_rows_is_refused_as_one_class_of_ids(backend) -> None:
    trainer = Trainer(Sequential(Dense(3)), backend=backend, device="cpu")
    for y in (np.ones(20, int), np.tile([0.0, 1.0, 0.0], (20, 1))):
        with pytest.raises(InputError, match="y holds the single class 1, but a classifier needs"):
            trainer.fit(X, y)
    two = np.tile([0.0, 1.0, 0.0], (20, 1))
    two[4] = [0.5, 0.5, 0.0]
    trainer.fit(X, two)
    trainer.evaluate(X, np.tile([0.0, 1.0, 0.0], (20, 1)))


def test_rows_that_are_no_distributions_are_warned_of() -> None:
    trainer = Trainer(Sequential(Dense(2)), backend="numpy")
    trainer.fit(X, np.tile([0.25, 0.75], (20, 1)))
    with pytest.warns(UserWarning, match=r"do not sum to 1, by up to 0\.5"):
        trainer.fit(X, np.tile([0.9, 0.6], (20, 1)))


@pytest.mark.parametrize(
    ("layers", "loss", "y"),
    [
        ([Dense(1, "sigmoid")], "squared_error", np.arange(20) % 2),
        ([Dense(1, "exponential")], "squared_error", np.arange(20)),
        ([Dense(1, "elu")], SIGMOID, np.arange(20) % 2),
        ([Dense(4, "softmax"), Dense(3)], SOFTMAX, np.arange(20) % 3),
        ([Dense(1, "relu"), Dense(2)], SOFTMAX, np.arange(20) % 2),
    ],
)
def test_what_may_be_is_neither(layers, loss, y) -> None:
    y = y if loss == SOFTMAX else y.astype(np.float64)
    Trainer(Sequential(*layers), loss, backend="numpy").fit(X, y)
