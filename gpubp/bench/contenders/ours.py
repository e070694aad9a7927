"""gpubp as its users get it: ``Trainer.fit``, shuffled minibatches included."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

import gpubp
from gpubp.bench import memory, phases
from gpubp.bench.cases import Case
from gpubp.bench.contenders.base import Contender
from gpubp.callbacks import Callback

_TRACED_STEPS = 30


class Ours(Contender):
    """A trainer on the case's device; ``backend`` None is the fastest one there."""

    def __init__(self, case: Case, threads: int | None, backend: str | None = None) -> None:
        super().__init__(case, threads)
        self.x, self.y = case.data()
        self.held_out = case.held_out()
        self.trainer = make_trainer(case, threads, backend)

    def train(self, epochs: int, shuffle: bool) -> float:
        """Train by ``fit``."""
        return self._fit(epochs, shuffle=shuffle)

    def turn(self, settle: float, seconds: float, **more: float) -> dict[str, float]:
        """Have a turn; ``more`` may ask for the "phases" of a step, too."""
        found = super().turn(settle, seconds, **more)
        if "phases" in more:
            times = self._phases.turn(more["phases"])
            found |= {name: times[name] for name in phases.PHASES}
        return found

    def loss(self) -> float:
        """Evaluate all rows."""
        return float(self.trainer.evaluate(self.x, self.y)["loss"])

    def epoch(self) -> float:
        """Train for an epoch with validation data."""
        return self._fit(1, validation_data=self.held_out)

    def reach(self, accuracy: float, most: int) -> tuple[float, int]:
        """Train until the accuracy is reached, with a callback that ends the training then."""
        stopwatch = _Stopwatch()

        def reached(trainer: gpubp.Trainer, record: dict[str, float]) -> bool:
            return record["val_accuracy"] >= accuracy

        before = self.trainer.epoch
        self.trainer.fit(
            self.x, self.y, most, self.case.batch, validation_data=self.held_out,
            callbacks=[stopwatch, reached],
        )  # fmt: skip
        return stopwatch.seconds, self.trainer.epoch - before

    @cached_property
    def _phases(self) -> phases.Phases:
        return phases.Phases(self.trainer, self.x, self.y, self.case.batch)

    def costs(self) -> dict[str, Any]:
        """Return operations, bytes and calls of each phase, and the bytes that a step works in."""
        return phases.costs(self.trainer.plan(self.case.batch), self.trainer)

    def breakdown(self) -> list[dict[str, Any]]:
        """Return how long each call of a step takes, alone and on one thread."""
        rows = self.case.batch * min(self.case.steps, _TRACED_STEPS)
        found = self.trainer.trace(self.x[:rows], self.y[:rows], self.case.batch)
        return [
            {
                "formula": timing.call.formula, "kernel": timing.call.kernel,
                "seconds": timing.seconds, "flops": timing.call.flops, "bytes": timing.call.bytes,
            }
            for timing in found.timings
        ]  # fmt: skip

    def memory(self) -> dict[str, int]:
        """Return the bytes that training takes, by what for."""
        return memory.of_training(self.trainer, (self.x, self.y), self.case.batch)

    def _fit(self, epochs: int, **settings: Any) -> float:
        stopwatch = _Stopwatch()
        self.trainer.fit(self.x, self.y, epochs, self.case.batch, callbacks=[stopwatch], **settings)
        return stopwatch.seconds


class _Stopwatch(Callback):
    """Times the epochs of a fit; the look at all the data before them comes once a fit."""

    seconds = 0.0

    def on_fit_start(self, trainer: Any, run: Any) -> None:
        self._start = time.perf_counter()

    def on_fit_end(self, trainer: Any) -> None:
        self.seconds = time.perf_counter() - self._start


def make_trainer(
    case: Case, threads: int | None = None, backend: str | None = None
) -> gpubp.Trainer:
    """Return a trainer with a case's network and first weights."""
    *hidden, classes = case.sizes[1:]
    layers = [gpubp.Dense(units, case.activation) for units in hidden]
    network = gpubp.Sequential(*layers, gpubp.Dense(classes))
    trainer = gpubp.Trainer(
        network, device=case.device, backend=backend, precision=case.precision, threads=threads
    )
    trainer.initialize(case.sizes[0])
    trainer.set_named_parameters(
        {
            f"{letter}{number}": values
            for number, layer in enumerate(case.layers(), start=1)
            for letter, values in zip("Wb", layer, strict=True)
        }
    )
    return trainer
