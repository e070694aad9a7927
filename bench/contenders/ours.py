"""gpubp as its users get it: ``Trainer.fit``, shuffled minibatches included."""

from __future__ import annotations

import time
from typing import Any

import gpubp
from contenders.base import Contender
from gpubp.callbacks import Callback
from networks import Network


class Numba(Contender):
    """The numba backend."""

    def __init__(self, network: Network, threads: int | None) -> None:
        super().__init__(network, threads)
        self.x, self.y = network.data()
        *hidden, classes = network.sizes[1:]
        layers = [gpubp.Dense(units, "relu") for units in hidden]
        model = gpubp.Sequential(*layers, gpubp.Dense(classes))
        self.trainer = gpubp.Trainer(model, device="cpu", backend="numba", threads=threads)
        self.trainer.initialize(network.sizes[0])
        self.trainer.set_named_parameters(
            {
                f"{letter}{number}": values
                for number, layer in enumerate(network.layers(), start=1)
                for letter, values in zip("Wb", layer, strict=True)
            }
        )

    def train(self, epochs: int, shuffle: bool) -> float:
        stopwatch = _Stopwatch()
        self.trainer.fit(
            self.x, self.y, epochs, self.network.batch, shuffle=shuffle, callbacks=[stopwatch]
        )
        return stopwatch.seconds

    def loss(self) -> float:
        return self.trainer.evaluate(self.x, self.y)["loss"]


class _Stopwatch(Callback):
    """Times the epochs of a fit; the look at all the data before them comes once a fit."""

    seconds = 0.0

    def on_fit_start(self, trainer: Any, run: Any) -> None:
        self._start = time.perf_counter()

    def on_fit_end(self, trainer: Any) -> None:
        self.seconds = time.perf_counter() - self._start
