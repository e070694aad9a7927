"""What happens in an epoch: order of the rows, learning rates, training, evaluation, record."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubp.callbacks import Progress, Run
from gpubp.engine import Engine
from gpubp.errors import InputError
from gpubp.feed import Data
from gpubp.metrics import metrics
from gpubp.schedules import Span

if TYPE_CHECKING:
    from gpubp.trainer import Trainer


class Epochs:
    """Runs the epochs of one call of :meth:`Trainer.fit`."""

    def __init__(
        self, trainer: Trainer, data: Data, validation: Data | None, run: Run, shuffle: bool
    ) -> None:
        self.trainer = trainer
        self._run = run
        self.validation = validation
        rows = data.rows if data.source is None else data.source.rows
        engine = trainer._trained()
        self._orders = engine.orders(rows, run.rows, shuffle)
        # Bound once and refilled for every epoch, or for a window told to it.
        self.order = engine.backend.zeros(data.size, "int64")
        self.data = data if data.window else replace(data, rows=self.order)
        self.rates = engine.backend.zeros(run.steps_per_epoch, "float64")
        engine.prepare(self.data, self.rates, run.batch_size)

    def run(self) -> dict[str, float]:
        """Train for one epoch, evaluate, and return the record that was added to the history."""
        trainer, run = self.trainer, self._run
        engine = trainer._trained()
        self.check_labels()
        factors = self._prepare(engine)
        started, rows_before = time.perf_counter(), engine.row
        loss = engine.train(self.data, self.rates, run.batch_size, self._report)
        seconds = time.perf_counter() - started
        engine.check_finite()
        record = {
            "epoch": trainer.epoch + 1,
            "step": trainer.step,
            "loss": loss,
            "lr": trainer.optimizer.lr * float(factors[-1]),
            "seconds": seconds,
            "samples_per_second": (run.rows - rows_before) / seconds,
        }
        if self.validation is not None:
            found = metrics(engine, self.validation)
            record |= {f"val_{name}": value for name, value in found.items()}
        # Together, and last: a Ctrl-C during the evaluation leaves the epoch unfinished.
        engine.rewind()
        trainer.epoch += 1
        trainer._active_schedule.observe(record.get("val_loss", loss))
        trainer.history.append(record)
        return record

    def check_labels(self, *, on_device: bool = False) -> None:
        """Check class ids again: who owns the array may have changed it meanwhile.

        Those on a device are left out if not asked for: to read them takes longer than an epoch.
        A loss of what is no class is NaN.

        Raises:
            InputError: one is no class any more.
        """
        engine = self.trainer._trained()
        classes = engine.network.outputs(engine.features)
        for data in (self.data, self.validation):
            y = None if data is None else (data.source or data).y
            if y is None or y.ndim != 1 or not (on_device or isinstance(y, np.ndarray)):
                continue
            host = y if isinstance(y, np.ndarray) else np.asarray(engine.backend.to_host(y))
            ids = host.view(np.uint64)  # what is below 0 is large there
            if int(ids.max()) >= classes:
                row = int((ids >= classes).argmax())
                raise InputError(
                    f"y has {int(ids.view(np.int64)[row])} at row {row}, which it had not when fit "
                    f"began: the ids go from 0 to {classes - 1}; give fit a copy of labels that "
                    "change meanwhile"
                )

    def _prepare(self, engine: Engine) -> NDArray[np.float64]:
        """Put the epoch's order of rows and learning rates on the device."""
        trainer, run = self.trainer, self._run
        offset = (trainer.epoch - run.first_epoch) * run.steps_per_epoch
        steps = np.arange(offset, offset + run.steps_per_epoch)
        span = Span(run.epochs * run.steps_per_epoch, run.steps_per_epoch)
        factors = trainer._active_schedule.factors(steps, span)
        self.rates[...] = engine.backend.to_device(trainer.optimizer.lr * factors)
        self.order[...] = self._orders(trainer.epoch)
        if self.data.window:
            self.data.window.begin(engine.backend.to_host(self.order))
        engine.begin_epoch(trainer._first_step + offset)
        return factors

    def _report(self, steps: int, loss: float) -> None:
        trainer = self.trainer
        progress = Progress(trainer.epoch + 1, steps, self._run.steps_per_epoch, loss)
        for callback in trainer._callbacks:
            callback.on_progress(trainer, progress)
