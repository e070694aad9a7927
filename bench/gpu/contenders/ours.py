"""gpubp: whole epochs by ``Trainer.fit``, and single steps by what fit runs them with."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import gpubp
from gpu import device
from gpu.cases import BETA1, BETA2, EPSILON, Case, EpochCase
from gpu.contenders.base import Contender, Turn
from gpubp.callbacks import Callback
from gpubp.kernels.cuda import launch
from gpubp.losses import SquaredError
from gpubp.optimizers import Adam

STEPS_A_GRAPH = (1, 4, 16, 64)
_TRACED_STEPS = 30
_SWEEP_ROUNDS = 7


class _Ours(Contender):
    """A trainer with the first weights, and data on the device."""

    def __init__(self, case: str, precision: str, stand_in: bool) -> None:
        super().__init__(case, precision, stand_in)
        self.trainer = made = trainer_of(self.case, precision, stand_in=stand_in)
        self.driver = device.backend_of(made).driver
        self._active = self.driver.active()
        self._active.__enter__()  # for as long as the process lives
        made.initialize(self.case.sizes[0])
        self.start()

    def start(self) -> None:
        """Set the first weights."""
        named = {
            f"{letter}{number}": values
            for number, layer in enumerate(self.case.layers(), start=1)
            for letter, values in zip("Wb", layer, strict=True)
        }
        self.trainer.set_named_parameters(named)

    def upload(self, rows: int, seed: int) -> tuple[Any, Any]:
        """Return random data on the device."""
        features, outputs = self.case.sizes[0], self.case.sizes[-1]
        x = device.normal(self.driver, (rows, features), seed)
        if self.case.loss == "softmax_cross_entropy":
            return x, device.labels(self.driver, outputs, rows, seed)
        return x, device.normal(self.driver, (rows, outputs), seed + 1)


def trainer_of(case: Case, precision: str, *, stand_in: bool) -> gpubp.Trainer:
    """Return a new trainer for a case."""
    *hidden, outputs = case.sizes[1:]
    layers = [gpubp.Dense(units, "relu") for units in hidden]
    loss = SquaredError(half=False) if case.loss == "squared_error" else case.loss
    optimizer = Adam(lr=case.rate, beta1=BETA1, beta2=BETA2, eps=EPSILON)
    network = gpubp.Sequential(*layers, gpubp.Dense(outputs))
    return device.trainer(network, precision, stand_in=stand_in, loss=loss, optimizer=optimizer)


class Steps(_Ours):
    """Training steps alone: fit's own executable on fit's data, with no epoch around them.

    A step takes the next minibatch of shuffled rows, which the peers' steps need not.
    """

    def losses(self) -> list[float]:
        trainer, batch = self.trainer, self.case.batch
        x, y = self.case.data(batch, seed=1)
        trainer.fit(x, y, self.case.checked, batch, shuffle=False)
        losses = [record["loss"] for record in trainer.history]
        self._x, self._y = self.upload(batch * self.case.turn, seed=5)
        self._executable = device.training_step(trainer, self._x, self._y, batch)
        for _ in range(2):  # graphs are captured, and how many steps one should hold is found
            self.turn()
        return losses

    def turn(self) -> Turn:
        self._rewind()
        before, start = self.driver.event(), time.perf_counter()
        outcome = self._executable.timed_run(self.case.turn)
        after, end = self.driver.event(), time.perf_counter()
        if outcome.reason != "finished":
            raise RuntimeError(f"the run of {self.case.turn} steps ended as {outcome}")
        after.wait()
        seconds = {"wall": end - start, "device": after.seconds_since(before)}
        return {name: value / self.case.turn for name, value in seconds.items()}

    def plan(self) -> dict[str, Any]:
        """Return what a step consists of."""
        calls = self._executable.plan.calls
        return {
            "nodes": len(calls),
            "kernels": [call.kernel for call in calls],
            "product_flops": sum(c.flops for c in calls if launch.is_product(c.kernel)),
            "bytes": sum(call.bytes for call in calls),
        }

    def steps_a_graph(self) -> dict[str, Any]:
        """Return seconds a step by how many steps a graph holds, and what the backend chose."""
        ways = [count for count in STEPS_A_GRAPH if self.case.turn % count == 0]
        turns: dict[int, list[Turn]] = {count: [] for count in ways}
        for sweep in range(-1, 2 if self.stand_in else _SWEEP_ROUNDS):
            for count in ways:
                seconds = self._replay(count)
                if sweep >= 0:  # the first captures
                    turns[count].append(seconds)
        medians = {
            str(count): {key: float(np.median([turn[key] for turn in of])) for key in of[0]}
            for count, of in turns.items()
        }
        return {"steps": medians, "chosen": self._executable._per_graph.best}

    def trace(self) -> list[dict[str, Any]]:
        """Return for each call of a step how long it takes when it is alone on the device."""
        rows = self.case.batch * min(self.case.turn, _TRACED_STEPS)
        found = self.trainer.trace(self._x[:rows], self._y[:rows], self.case.batch)
        return [
            {
                "kernel": timing.call.kernel, "formula": timing.call.formula,
                "seconds": timing.seconds, "gflops": timing.gflops, "gbytes": timing.gbytes,
            }
            for timing in found.timings
        ]  # fmt: skip

    def _rewind(self) -> None:
        device.rewind(self.trainer)
        self.driver.synchronize()

    def _replay(self, per_graph: int) -> Turn:
        self._rewind()
        before, start = self.driver.event(), time.perf_counter()
        self._executable._replay(self.case.turn, per_graph)
        queued = time.perf_counter()
        after = self.driver.event()
        after.wait()
        seconds = {
            "wall": time.perf_counter() - start,
            "queued": queued - start,
            "device": after.seconds_since(before),
        }
        return {name: value / self.case.turn for name, value in seconds.items()}


class Epochs(_Ours):
    """Epochs of ``fit`` on device arrays, shuffled, with the validation loss after each."""

    case: EpochCase

    def losses(self) -> list[float]:
        x, y = self.case.data(self.case.rows, seed=1)
        validation = self.case.data(self.case.validation_rows, seed=3)
        settings: dict[str, Any] = {"validation_data": validation, "shuffle": False}
        (record,) = self.trainer.fit(x, y, 1, self.case.batch, **settings)
        self._data = self.upload(self.case.rows, seed=5)
        self._validation = self.upload(self.case.validation_rows, seed=7)
        self.turn()
        return [record["loss"], record["val_loss"]]

    def turn(self) -> Turn:
        stopwatch = _Stopwatch(self.driver)
        self.trainer.fit(
            *self._data, self.case.turn, self.case.batch,
            validation_data=self._validation, callbacks=[stopwatch],
        )  # fmt: skip
        return {name: value / self.case.turn for name, value in stopwatch.seconds.items()}


class _Stopwatch(Callback):
    """Times the epochs of a fit; the look at all the data before them comes once a fit."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def on_fit_start(self, trainer: Any, run: Any) -> None:
        self._event, self._time = self._driver.event(), time.perf_counter()

    def on_fit_end(self, trainer: Any) -> None:
        wall, event = time.perf_counter() - self._time, self._driver.event()
        event.wait()
        self.seconds = {"wall": wall, "device": event.seconds_since(self._event)}
