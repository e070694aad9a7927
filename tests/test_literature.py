"""Hand-worked examples of the literature, to the digits that they print."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import gpubp
from gpubp.losses import SquaredError
from gpubp.optimizers import SGD

BACKENDS = ["numpy", "numba"]


def _trainer(
    network: gpubp.Sequential, features: int, weights: dict[str, list], backend: str, **settings
) -> gpubp.Trainer:
    """Return a float64 trainer with these weights."""
    trainer = gpubp.Trainer(network, precision="fp64", backend=backend, **settings)
    trainer.initialize(features)
    trainer.set_named_parameters({name: np.array(value) for name, value in weights.items()})
    return trainer


def _step(trainer: gpubp.Trainer, X: list[list[float]], y: list[list[float]]) -> float:
    """Train for one step on the whole of the data; return the loss before it."""
    history = trainer.fit(np.array(X), np.array(y), epochs=1, batch_size=len(X), shuffle=False)
    return float(history.column("loss")[-1])


def _digits(value: float, text: str) -> None:
    """Check that a number rounds to a printed one."""
    decimals = len(text.partition(".")[2])
    assert f"{value:.{decimals}f}" == text


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_sigmoid_neuron(backend: str) -> None:
    trainer = _trainer(
        gpubp.Sequential(gpubp.Dense(1, "sigmoid")),
        2,
        {"W1": [[0.5], [0.2]], "b1": [1.83]},
        backend,
        loss="squared_error",
        optimizer=SGD(lr=0.01),
    )
    linear = _trainer(
        gpubp.Sequential(gpubp.Dense(1)),
        2,
        {"W1": [[0.5], [0.2]], "b1": [1.83]},
        backend,
        loss="squared_error",
    )
    X = [[0.1, 0.3]]
    _digits(linear.forward(np.array(X))[0, 0], "1.94")
    _digits(trainer.forward(np.array(X))[0, 0], "0.874352143")
    _digits(_step(trainer, X, [[0.03]]), "0.356465271")
    gradients = trainer.named_gradients()["W1"].ravel()
    _digits(gradients[0], "0.009276093")
    _digits(gradients[1], "0.027828278")
    weights = trainer.named_parameters()["W1"].ravel()
    _digits(weights[0], "0.49990723907")
    _digits(weights[1], "0.1997217172")


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_layers_of_sigmoids(backend: str) -> None:
    # The rows of the source's W1 are the weights of one hidden neuron each: columns of ours.
    weights = {
        "W1": [[0.15, 0.25], [0.20, 0.30]],
        "b1": [0.35, 0.35],
        "W2": [[0.40], [0.45]],
        "b2": [0.50],
    }
    X, y = [[0.05, 0.10]], [[0.01]]
    hidden = {name: weights[name] for name in ("W1", "b1")}
    linear = _trainer(gpubp.Sequential(gpubp.Dense(2)), 2, hidden, backend, loss="squared_error")
    _digits(linear.forward(np.array(X))[0, 0], "0.3775")
    _digits(linear.forward(np.array(X))[0, 1], "0.3925")
    trainer = _trainer(
        gpubp.Sequential(gpubp.Dense(2, "sigmoid"), gpubp.Dense(1, "sigmoid")),
        2,
        weights,
        backend,
        loss="squared_error",
        optimizer=SGD(lr=0.01),
    )
    _digits(trainer.forward(np.array(X))[0, 0], "0.7322181764")
    _digits(_step(trainer, X, y), "0.2607995472")
    gradients = trainer.named_gradients()
    _digits(gradients["b2"][0], "0.1416087257")  # a bias's gradient is its neuron's delta
    _digits(gradients["b1"][0], "0.0136681143")
    _digits(gradients["b1"][1], "0.0153328317")
    _digits(trainer.named_parameters()["W2"][0, 0], "0.3991598779")
    _digits(trainer.named_parameters()["W2"][1, 0], "0.4491547596")


@pytest.mark.parametrize("seed", range(3))
def test_linear_neuron_converges_in_80000_steps(seed: int) -> None:
    weights = np.random.default_rng(seed).random((2, 1))
    trainer = _trainer(
        gpubp.Sequential(gpubp.Dense(1, bias=False)),
        2,
        {"W1": weights.tolist()},
        "numba",
        loss=SquaredError(half=False),
        optimizer=SGD(lr=0.01),
    )
    # An epoch of 80,000 steps: as many copies of the one row, a minibatch each.
    X, y = np.tile([[0.1, 0.4]], (80_000, 1)), np.full((80_000, 1), 0.7)
    trainer.fit(X, y, epochs=1, batch_size=1, shuffle=False)
    assert trainer.step == 80_000
    assert abs(trainer.predict(X[:1])[0] - 0.7) < 1e-6


def _xor() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return X, np.array([[0.0], [1.0], [1.0], [0.0]])


def test_xor_is_learned() -> None:
    random = np.random.RandomState(1)
    weights = {"W1": random.randn(2, 4), "b1": np.zeros(4), "W2": random.randn(4, 1), "b2": [0.0]}
    trainer = _trainer(
        gpubp.Sequential(gpubp.Dense(4, "sigmoid"), gpubp.Dense(1)),
        2,
        weights,
        "numba",
        loss="sigmoid_cross_entropy",
        optimizer=SGD(lr=0.1),
    )
    X, y = _xor()
    _digits(trainer.evaluate(X, y)["loss"], "0.737629097")
    steps = 10_000
    trainer.fit(np.tile(X, (steps, 1)), np.tile(y, (steps, 1)), 1, batch_size=4, shuffle=False)
    assert trainer.step == steps
    result = trainer.evaluate(X, y)
    _digits(result["loss"], "0.0131074")
    assert result["accuracy"] == 1.0
    np.testing.assert_array_equal(trainer.predict(X), [0, 1, 1, 0])
