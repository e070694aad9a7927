"""What can watch and steer a training run: early stopping, files, the progress line, functions.

A callback is called by the trainer between epochs and never sees a minibatch. What it must
remember to go on after an interruption is its state, which is kept in every checkpoint.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from gpubp import files
from gpubp.errors import InputError, unknown_name, warn
from gpubp.history import CLERICAL, History, Record, csv_lines, larger_is_better
from gpubp.liveline import LiveLine
from gpubp.settings import Rule

if TYPE_CHECKING:
    from gpubp.trainer import Trainer

_COUNT = Rule(least=0, whole=True)
_LINE_SECONDS = 0.1  # between two drawings of the live line


@dataclass(frozen=True, slots=True)
class Run:
    """What is fixed for a run; its records have the epochs first_epoch + 1 to last_epoch."""

    first_epoch: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    rows: int

    @property
    def last_epoch(self) -> int:
        """The epoch after which the run is done, if nothing ends it before."""
        return self.first_epoch + self.epochs


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an epoch is: its number, its steps, and the mean loss of those that are done."""

    epoch: int
    steps_done: int
    steps_total: int
    loss: float


class Callback:
    """Base of all callbacks: every method does nothing.

    ``key`` names the state in a checkpoint; one run can't have two states of one key. ``last``
    marks the callbacks to be called after all others, because they save what those have changed.
    """

    key = ""
    last = False

    def on_fit_start(self, trainer: Trainer, run: Run) -> bool | None:
        """Take note of a run that begins, or goes on after :meth:`restore`; True ends it here."""

    def on_progress(self, trainer: Trainer, progress: Progress) -> None:
        """Take note of progress within an epoch, a few times a second at most."""

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:
        """Take note of an epoch; its record is in the history by now. True ends the run."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """Conclude a run that reached its end or was ended by a callback."""

    def close(self) -> None:
        """Release what :meth:`on_fit_start` took, however the run ended."""

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs: JSON values and NumPy arrays, by name."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned; called before :meth:`on_fit_start`."""


class FunctionCallback(Callback):
    """Calls ``function(trainer, record)`` after each epoch; True, and only that, ends the run."""

    def __init__(self, function: Callable[[Trainer, Record], object]) -> None:
        self.function = function

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:  # noqa: D102
        answer = self.function(trainer, record)
        return isinstance(answer, bool | np.bool) and bool(answer)


def as_callback(callback: Callback | Callable[[Trainer, Record], object]) -> Callback:
    """Return a callback as it is, or a function as a callback.

    Raises:
        InputError: it is neither.
    """
    if isinstance(callback, Callback):
        return callback
    if isinstance(callback, type):
        raise InputError(
            f"callback {callback.__name__} is a class; make one: {callback.__name__}(...)"
        )
    if not callable(callback):
        raise InputError(f"callback {callback!r} is neither a Callback nor a function")
    return FunctionCallback(callback)


def as_callbacks(
    callbacks: Iterable[Callback | Callable[[Trainer, Record], object]],
) -> list[Callback]:
    """Return callbacks in the order in which they are to be called.

    Raises:
        InputError: one is neither a callback nor a function, or two have one key.
    """
    made = [as_callback(callback) for callback in callbacks]
    for key, count in Counter(callback.key for callback in made if callback.key).items():
        if count > 1:
            raise InputError(f"{count} callbacks would keep their state as {key!r}; leave one out")
    return sorted(made, key=lambda callback: callback.last)


class _Best:
    """The best value so far of one number of the records, and its epoch."""

    def __init__(self, monitor: str, mode: str = "auto", min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise unknown_name("mode", mode, ("auto", "min", "max"))
        self.monitor = monitor
        larger = larger_is_better(monitor) if mode == "auto" else mode == "max"
        self._sign = -1.0 if larger else 1.0
        self._min_delta = Rule(least=0).check("min_delta", min_delta)
        self.forget()

    def forget(self) -> None:
        self.value: float | None = None
        self.epoch = 0
        self._warned = False

    def improves(self, record: Record) -> bool:
        """Take note of a record; return whether it is better than all before by ``min_delta``."""
        value = self._read(record)
        better = (
            self.value is None or self._sign * value < self._sign * self.value - self._min_delta
        )
        if not better or not math.isfinite(value):
            return False
        self.value, self.epoch = value, int(record["epoch"])
        return True

    def state(self) -> dict[str, Any]:
        return {"value": self.value, "epoch": self.epoch}

    def restore(self, state: dict[str, Any]) -> None:
        self.forget()
        self.value = Rule(optional=True).check("value", state["value"])
        self.epoch = _COUNT.check("epoch", state["epoch"])

    def _read(self, record: Record) -> float:
        name = self.monitor
        if name == "val_loss" and name not in record:
            name = "loss"
            if not self._warned:
                self._warned = True
                warn(
                    "there is no validation data, so the training loss is monitored; give fit "
                    "validation_data or validation_fraction, or say monitor='loss'",
                    UserWarning,
                )
        if name not in record:
            raise unknown_name("monitored number", name, record)
        return float(record[name])


def _vector(state: dict[str, Any], name: str) -> np.ndarray[Any, Any] | None:
    """Return a vector of a state, None if there is none; where it is set its shape is checked."""
    vector = state.get(name)
    if vector is not None and not isinstance(vector, np.ndarray):
        raise InputError(f"{name} is no tensor")
    return vector


class EarlyStopping(Callback):
    """Ends a run whose monitored number has stopped improving.

    Goodfellow, Bengio & Courville 2016, Deep Learning, algorithm 7.1.

    Args:
        monitor: which number of the records; ``val_loss`` falls back to ``loss``, with a warning,
            where there is no validation data. ``loss`` is the mean over the epoch's steps, each
            before its update, so it is that of no one set of parameters; those of its best epoch
            are the ones at that epoch's end. A number of validation data is of these very ones.
        patience: how many epochs in a row may bring nothing better.
        min_delta: how much better than the best a value must be to count.
        mode: "min", "max" or "auto", by which ``accuracy`` and ``r2`` are maximised.
        restore_best: whether the run ends with the parameters of the best epoch.

    After the run ``best_value`` and ``best_epoch`` say what was found, and ``stopped_epoch`` when
    it was ended, 0 if it was not. A run that is taken up again goes on from its last parameters,
    and past the end that a smaller ``patience`` made.

    Raises:
        InputError: a setting is out of its range; after the first epoch: there is no such number.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        self.key = f"early_stopping:{monitor}"
        self.patience = Rule(least=1, whole=True).check("patience", patience)
        self.restore_best = restore_best
        self._best = _Best(monitor, mode, min_delta)
        self._restored = False
        self._forget()

    def _forget(self) -> None:
        self._best.forget()
        self._parameters: np.ndarray[Any, Any] | None = None
        self._last: np.ndarray[Any, Any] | None = None  # those that the best have replaced
        self._wait = 0
        self.stopped_epoch = 0

    @property
    def best_value(self) -> float | None:
        """The best value so far; None before the first."""
        return self._best.value

    @property
    def best_epoch(self) -> int:
        """The epoch of the best value; 0 before the first."""
        return self._best.epoch

    def on_fit_start(self, trainer: Trainer, run: Run) -> bool | None:  # noqa: D102
        if not self._restored:
            self._forget()
        self._restored = False
        if self._last is not None:
            trainer.set_parameters(self._last)
            self._last = None
        return self.stopped_epoch > 0  # a run that was killed after it had been ended

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:  # noqa: D102
        if self._best.improves(record):
            self._wait = 0
            if self.restore_best:
                self._parameters = trainer.parameters()
        else:
            self._wait += 1
        if self._wait >= self.patience:
            self.stopped_epoch = int(record["epoch"])
        return self.stopped_epoch > 0

    def on_fit_end(self, trainer: Trainer) -> None:  # noqa: D102
        if self._parameters is not None:
            self._last = trainer.parameters()
            trainer.set_parameters(self._parameters)

    def state(self) -> dict[str, Any]:  # noqa: D102
        vectors = {"parameters": self._parameters, "last": self._last}
        return {
            **self._best.state(),
            "wait": self._wait,
            "stopped_epoch": self.stopped_epoch,
            **{name: vector for name, vector in vectors.items() if vector is not None},
        }

    def restore(self, state: dict[str, Any]) -> None:  # noqa: D102
        self._best.restore(state)
        self._wait, self.stopped_epoch = (
            _COUNT.check(name, state[name]) for name in ("wait", "stopped_epoch")
        )
        if self._wait < self.patience:
            self.stopped_epoch = 0
        self._parameters, self._last = (_vector(state, name) for name in ("parameters", "last"))
        self._restored = True


class Checkpoint(Callback):
    """Saves the trainer every ``every`` epochs, and as the run ends it.

    At the end, be it the last epoch or a callback that ends it, the file holds what the trainer
    holds then: with :class:`EarlyStopping` the parameters of the best epoch.

    Args:
        path: the file. It is replaced as a whole: whenever the process dies, one checkpoint or
            the next is there.
        every: epochs from one save to the next.
        best: the name of a number of the records; the model of its best epoch is kept beside, as
            ``model.best.gpubp`` for the path ``model.gpubp``.
        seconds: the least from one save to the next, for epochs that take less time than a save.

    Raises:
        InputError: ``every`` is no whole number of at least 1, or ``seconds`` none of at least 0.
        SaveError: the path cannot be written to; said before the first epoch.
    """

    last = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int = 1,
        best: str | None = None,
        *,
        seconds: float = 0.0,
    ) -> None:
        self.path = Path(path)
        self.best_path = self.path.with_stem(f"{self.path.stem}.best")
        self.every = Rule(least=1, whole=True).check("every", every)
        self.seconds = Rule(least=0).check("seconds", seconds)
        self._due = -math.inf
        self._told: int | None = None  # the last epoch of which all callbacks know
        self._best = None if best is None else _Best(best)
        self.key = "" if best is None else f"checkpoint:{best}"
        self._restored = False

    def on_fit_start(self, trainer: Trainer, run: Run) -> bool | None:  # noqa: D102
        files.check_writable(self.path)
        if self._best is not None:
            files.check_writable(self.best_path)
            if not self._restored:
                self._best.forget()
        self._restored = False
        self._due = -math.inf
        self._told = trainer.epoch
        return None

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:  # noqa: D102
        self._told = trainer.epoch
        if self._best is not None and self._best.improves(record):
            trainer.save(self.best_path)
        if record["epoch"] % self.every == 0 and time.monotonic() >= self._due:
            trainer.save(self.path)
            self._due = time.monotonic() + self.seconds
        return None

    def on_fit_end(self, trainer: Trainer) -> None:  # noqa: D102
        trainer.save(self.path)

    def keep(self, trainer: Trainer) -> bool:
        """Save what a run has done that a signal stopped, finished steps of an epoch too.

        Returns:
            whether it was saved. It is not before the first step, nor where a callback broke off:
            others do not know of the last epoch then, and the run would not go on as it was.
        """
        if self._told != trainer.epoch or not trainer.step:
            return False
        trainer.save(self.path)
        return True

    def state(self) -> dict[str, Any]:  # noqa: D102
        return {} if self._best is None else self._best.state()

    def restore(self, state: dict[str, Any]) -> None:  # noqa: D102
        if self._best is not None:
            self._best.restore(state)
        self._restored = True


class HistoryCSV(Callback):
    """Keeps the history in a CSV file, to which every epoch adds its line.

    The file is written whole after the first epoch of a run or of its resumption, so that it agrees
    with the history whatever was there; at the end; and where a line would not do: for a name that
    the header has not, or because somebody else has changed the file or the history.

    Raises:
        SaveError: the path cannot be written to; said before the first epoch.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._forget()

    def _forget(self) -> None:
        self._names: list[str] = []  # the file's columns
        self._records, self._size = -1, 0  # its records and bytes

    def on_fit_start(self, trainer: Trainer, run: Run) -> bool | None:  # noqa: D102
        files.check_writable(self.path)
        self._forget()
        return None

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:  # noqa: D102
        history = trainer.history
        if len(history) != self._records + 1 or not self._added(self.shown(history[-1])):
            self._write(history)
        return None

    def on_fit_end(self, trainer: Trainer) -> None:  # noqa: D102
        self._write(trainer.history)

    def shown(self, record: Record) -> Record:
        """Return what is written of a record: all of it, or what a subclass makes of it."""
        return record

    def _added(self, record: Record) -> bool:
        """Add the line of a record; return whether that could be done."""
        if not record.keys() <= set(self._names):
            return False
        line = csv_lines(self._names, [record])
        if not files.append(self.path, line, at=self._size):
            return False
        self._records += 1
        self._size += len(line)
        return True

    def _write(self, history: History) -> None:
        self._forget()  # so that nothing is added to a file of which it is not known what it holds
        shown = History.from_records(map(self.shown, history))
        lines = csv_lines(shown.names, shown, header=True)
        files.write(self.path, lines)
        self._names, self._records, self._size = shown.names, len(shown), len(lines)


class ProgressLine(Callback):
    """Shows a live line on a terminal, and elsewhere (a file, a pipe) a plain line an epoch.

    Args:
        file: the stream to write to, by default the standard error stream.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._bar: LiveLine | None = None

    def on_fit_start(self, trainer: Trainer, run: Run) -> bool | None:  # noqa: D102
        self._run = run
        self._out = sys.stderr if self._file is None else self._file
        self._metric = ""  # the last of the epoch before, such as val_accuracy
        if self._out.isatty() and os.environ.get("TERM") != "dumb":
            self._drawn = -math.inf
            self._bar = LiveLine(self._out, run.epochs * run.steps_per_epoch, run.batch_size)
            self._bar.start()
            self._bar.note((trainer.epoch - run.first_epoch) * run.steps_per_epoch)
        return None

    @property
    def is_live(self) -> bool:
        """Whether a line on a terminal is shown just now."""
        return self._bar is not None

    def on_progress(self, trainer: Trainer, progress: Progress) -> None:  # noqa: D102
        if self._bar is not None:
            self._show(progress.epoch, progress.steps_done, progress.loss)

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:  # noqa: D102
        epoch, last = int(record["epoch"]), self._run.last_epoch
        numbers = [f"{name} {value:.4g}" for name, value in record.items() if name not in CLERICAL]
        if self._bar is not None:
            self._metric = numbers[-1] if len(numbers) > 1 else ""
            self._show(epoch, self._run.steps_per_epoch, record["loss"])
        else:
            left = timedelta(seconds=round((last - epoch) * record["seconds"]))
            print(
                f"epoch {epoch:{len(str(last))}}/{last}", f"step {record['step']}", *numbers,
                f"{record['samples_per_second']:,.0f} samples/s", f"{left} left",
                sep="  ", file=self._out, flush=True,
            )  # fmt: skip
        return None

    def close(self) -> None:  # noqa: D102
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, epoch: int, step: int, loss: float) -> None:
        assert self._bar is not None
        run = self._run
        done = (epoch - 1 - run.first_epoch) * run.steps_per_epoch + step
        now = time.monotonic()
        over = done == run.epochs * run.steps_per_epoch
        if now < self._drawn + _LINE_SECONDS and not over:
            return  # an epoch can take less time than drawing it
        self._drawn = now
        self._bar.note(done)
        self._bar.draw(
            f"epoch {epoch}/{run.last_epoch}",
            f"step {step}/{run.steps_per_epoch}",
            f"loss {loss:.4g} {self._metric}".rstrip(),
        )
