"""Losses as the trainer uses them: targets, predictions and metrics that belong to each."""

import numpy as np
import pytest
from networks import data

from gpubp import Dense, Sequential, Trainer
from gpubp.kernels.spec import KERNELS
from gpubp.losses import LOSSES, Huber, Quantile, SoftmaxCrossEntropy, SquaredError
from gpubp.optimizers import Adam

every_loss = pytest.mark.parametrize("name", [*LOSSES])
both = pytest.mark.parametrize("backend", ["numpy", "numba"])


def constant(loss, t):
    """Return the constant output that a loss is least at for targets t, found by training."""
    trainer = Trainer(
        Sequential(Dense(1)), loss=loss, optimizer=Adam(lr=0.02), schedule="cosine",
        precision="fp64",
    )  # fmt: skip
    trainer.fit(np.zeros((len(t), 1)), t, epochs=1500, batch_size=len(t))
    return float(trainer.predict(np.zeros((1, 1)))[0])


T = np.array([0.0, 0.1, 0.2, 0.5, 1.0, 1.5, 3.0])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("squared_error", T.mean()),
        (SquaredError(half=False), T.mean()),
        ("absolute_error", np.median(T)),
        (Quantile(0.75), np.quantile(T, 0.75, method="inverted_cdf")),
        (Quantile(0.2), np.quantile(T, 0.2, method="inverted_cdf")),
        (Huber(100.0), T.mean()),
        ("poisson", T.mean()),
    ],
)
def test_what_the_best_constant_is(loss, expected):
    """Mean, median and quantiles: what each loss is for. Predictions of counts are rates."""
    assert constant(loss, T) == pytest.approx(expected, abs=2e-3)


@both
def test_the_best_constant_chances_are_the_classes_shares(backend):
    y = np.array([0] * 5 + [1] * 3 + [2] * 2)
    trainer = Trainer(
        Sequential(Dense(3)), optimizer=Adam(lr=0.02), schedule="cosine", backend=backend,
        precision="fp64",
    )  # fmt: skip
    trainer.fit(np.zeros((10, 1)), y, epochs=500, batch_size=10)
    chances = trainer.predict_proba(np.zeros((1, 1)))[0]
    np.testing.assert_allclose(chances, [0.5, 0.3, 0.2], atol=1e-3)


@both
def test_smoothing_is_a_distribution_with_a_part_spread_evenly(backend):
    """Label smoothing of class ids is the plain loss on smoothed distributions."""
    X, y = data(dtype=np.float64)
    smoothed = 0.8 * np.eye(3)[y] + 0.2 / 3
    ids, rows = (
        Trainer(Sequential(Dense(3)), loss=loss, backend=backend, precision="fp64")
        for loss in (SoftmaxCrossEntropy(0.2), "softmax_cross_entropy")
    )
    first = ids.fit(X, y, epochs=2, batch_size=8).column("loss")
    second = rows.fit(X, smoothed, epochs=2, batch_size=8).column("loss")
    np.testing.assert_allclose(first, second, rtol=1e-12)
    np.testing.assert_allclose(ids.parameters(), rows.parameters(), rtol=1e-9, atol=1e-12)


@both
def test_distributions_are_right_where_their_largest_is(backend):
    X, y = data()
    trainer = Trainer(Sequential(Dense(3)), backend=backend)
    trainer.fit(X, y, epochs=5)
    rows = 0.6 * np.eye(3)[y] + 0.4 / 3
    assert trainer.evaluate(X, rows)["accuracy"] == trainer.evaluate(X, y)["accuracy"]


@every_loss
def test_the_link_maps_outputs_to_predictions(name):
    """Probabilities for classifiers; of the rest, only counts are not their own prediction."""
    X, y = data(name)
    trainer = Trainer(Sequential(Dense(3)), loss=name, backend="numpy", precision="fp64")
    trainer.fit(X, y)
    loss, outputs = LOSSES.get(name), trainer.forward(X)
    link = {
        "identity": lambda z: z,
        "exponential": np.exp,
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
    }[loss.link]
    predicted = trainer.predict_proba(X) if loss.classifies else trainer.predict(X)
    np.testing.assert_allclose(predicted, link(outputs), rtol=1e-12)
    assert set(trainer.evaluate(X, y)) == (
        {"loss", "accuracy"} if loss.classifies else {"loss", "rmse", "r2"}
    )


@every_loss
def test_scalars_are_those_of_the_kernel(name):
    loss = LOSSES.get(name)
    scalars = {scalar.name for scalar in KERNELS[loss.kernel].scalars}
    assert loss.scalars().keys() | {"scale"} == scalars


@every_loss
def test_a_configuration_makes_the_loss_again(name):
    options = {"huber": {"threshold": 0.5}, "quantile": {"q": 0.25}}.get(name, {})
    loss = LOSSES.get(name, **options)
    assert LOSSES.from_config(LOSSES.config(loss)) == loss
