"""scikit-learn's MLPClassifier, an epoch by ``partial_fit``."""

from __future__ import annotations

import time

import numpy as np
from sklearn.neural_network import MLPClassifier

from contenders.base import Contender
from networks import BETA1, BETA2, EPSILON, LEARNING_RATE, Network


class Mlp(Contender):
    """Two classes are one logistic output there: another parametrisation, whose loss is its own."""

    def __init__(self, network: Network, threads: int | None) -> None:
        super().__init__(network, threads)
        self.x, self.y = network.data()
        self.classes = np.arange(network.sizes[-1])
        self.model = MLPClassifier(
            network.sizes[1:-1], alpha=0.0, batch_size=network.batch, random_state=0,
            learning_rate_init=LEARNING_RATE, beta_1=BETA1, beta_2=BETA2, epsilon=EPSILON,
        )  # fmt: skip
        # Its arrays exist only after a first step; they are then overwritten in place, and the
        # optimizer is dropped, so that the next call starts from these weights.
        first = slice(network.batch)
        self.model.partial_fit(self.x[first], self.y[first], classes=self.classes)
        self.comparable = network.sizes[-1] > 2
        if self.comparable:
            places = zip(self.model.coefs_, self.model.intercepts_, strict=True)
            for place, layer in zip(places, network.layers(), strict=True):
                for array, values in zip(place, layer, strict=True):
                    array[...] = values
        del self.model._optimizer

    def train(self, epochs: int, shuffle: bool) -> float:
        self.model.shuffle = shuffle
        start = time.perf_counter()
        for _ in range(epochs):
            self.model.partial_fit(self.x, self.y)
        return time.perf_counter() - start

    def loss(self) -> float | None:
        if not self.comparable:
            return None
        # Not sklearn.metrics.log_loss, which clips what has become improbable.
        return float(-self.model.predict_log_proba(self.x)[np.arange(len(self.y)), self.y].mean())
