"""What a run shows, in the target's own unit, though the network works on a standardised target."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpubp.callbacks import HistoryCSV, Progress, ProgressLine, Run
from gpubp.history import History, Record

if TYPE_CHECKING:
    from gpubp.losses import Loss
    from gpubp.trainer import Trainer

# By which power of the target's scale a loss grows; one that is not here has no unit.
_POWERS = {"squared_error": 2, "huber": 2, "absolute_error": 1, "quantile": 1}

_LARGEST = 290  # digits of a unit, so that there is room for what it is multiplied by
_LINES = 50  # of a long run in a file


@dataclass(frozen=True, slots=True)
class Units:
    """What turns standardised numbers into those of the target's unit."""

    scale: float
    power: int

    @classmethod
    def of(cls, loss: Loss, scale: float) -> Units:
        """Return the units of a loss on a target that was divided by ``scale``.

        A loss whose unit no float64 has stays that of the standardised target.
        """
        power = _POWERS.get(loss.kernel, 0)
        shown = abs(power * math.log10(scale)) < _LARGEST
        return cls(scale, power if shown else 0)

    def loss(self, value: float) -> float:
        """Return a loss."""
        return value * self.scale**self.power

    def record(self, record: Record) -> Record:
        """Return the record of an epoch."""
        factors = {"loss": self.scale**self.power, "rmse": self.scale}
        return {
            name: value * factors[kind] if (kind := name.removeprefix("val_")) in factors else value
            for name, value in record.items()
        }

    def history(self, history: History) -> History:
        """Return the records of a run."""
        return History.from_records(map(self.record, history))


class Line(ProgressLine):
    """The progress line in the target's unit; in a file, the lines of some fifty epochs."""

    def __init__(self, units: Units) -> None:
        super().__init__()
        self._units = units

    def on_fit_start(self, trainer: Trainer, run: Run) -> bool | None:  # noqa: D102
        self._every = -(-run.epochs // _LINES)
        self._ends = (trainer.epoch + 1, run.last_epoch)
        return super().on_fit_start(trainer, run)

    def on_progress(self, trainer: Trainer, progress: Progress) -> None:  # noqa: D102
        super().on_progress(trainer, replace(progress, loss=self._units.loss(progress.loss)))

    def on_epoch_end(self, trainer: Trainer, record: Record) -> bool | None:  # noqa: D102
        epoch = int(record["epoch"])
        if self.is_live or epoch in self._ends or epoch % self._every == 0:
            return super().on_epoch_end(trainer, self._units.record(record))
        return None


class Table(HistoryCSV):
    """The history's file in the target's unit."""

    def __init__(self, path: Path, units: Units) -> None:
        super().__init__(path)
        self._units = units

    def shown(self, record: Record) -> Record:
        """Return what is written of a record."""
        return self._units.record(record)
