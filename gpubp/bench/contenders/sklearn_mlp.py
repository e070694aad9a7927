"""scikit-learn's MLPClassifier, an epoch by ``partial_fit``."""

from __future__ import annotations

import time

import numpy as np
from sklearn.neural_network import MLPClassifier  # type: ignore[import-untyped]

from gpubp.bench.cases import BETA1, BETA2, EPSILON, LEARNING_RATE, Case
from gpubp.bench.contenders.base import Contender

_ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic"}


class Mlp(Contender):
    """Two classes are one logistic output there: another parametrisation, whose loss is its own."""

    def __init__(self, case: Case, threads: int | None) -> None:
        super().__init__(case, threads)
        dtype = np.float64 if case.precision == "fp64" else np.float32
        (self.x, self.y), self.held_out = (
            (x.astype(dtype, copy=False), y) for x, y in (case.data(), case.held_out())
        )
        self.model = MLPClassifier(
            case.sizes[1:-1], alpha=0.0, batch_size=case.batch, random_state=0,
            activation=_ACTIVATIONS[case.activation], learning_rate_init=LEARNING_RATE,
            beta_1=BETA1, beta_2=BETA2, epsilon=EPSILON,
        )  # fmt: skip
        # Its arrays exist only after a first step; they are then overwritten in place, and the
        # optimizer is dropped, so that the next call starts from these weights.
        first = slice(case.batch)
        classes = np.arange(case.sizes[-1])
        self.model.partial_fit(self.x[first], self.y[first], classes=classes)
        self.comparable = case.sizes[-1] > 2
        if self.comparable:
            places = zip(self.model.coefs_, self.model.intercepts_, strict=True)
            for place, layer in zip(places, case.layers(), strict=True):
                for array, values in zip(place, layer, strict=True):
                    array[...] = values
        del self.model._optimizer

    def train(self, epochs: int, shuffle: bool) -> float:
        """Train, an epoch a call."""
        self.model.shuffle = shuffle
        start = time.perf_counter()
        for _ in range(epochs):
            self.model.partial_fit(self.x, self.y)
        return time.perf_counter() - start

    def loss(self) -> float | None:
        """Evaluate all rows."""
        return self._loss(self.x, self.y) if self.comparable else None

    def evaluate(self) -> float:
        """Evaluate loss and accuracy of the rows held out from one pass."""
        x, y = self.held_out
        log_p = self.model.predict_log_proba(x)
        log_p[np.arange(len(y)), y].mean()
        return float((log_p.argmax(axis=1) == y).mean())

    def _loss(self, x: np.ndarray, y: np.ndarray) -> float:
        # Not sklearn.metrics.log_loss, which clips what has become improbable.
        return float(-self.model.predict_log_proba(x)[np.arange(len(y)), y].mean())
