"""What decides the result of a run of ``gpubp train``: kept with the model, compared, filled in.

An option that is None on the command line gets its value from the data: how many rows there are,
and whether classes or values are predicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import click
import numpy as np

from gpubp.data.csvfile import Reading
from gpubp.data.prepare import Prepared
from gpubp.data.target import Task
from gpubp.errors import CheckpointError, InputError
from gpubp.losses import LOSSES
from gpubp.schedules import SCHEDULES, Span
from gpubp.trainer import Trainer

# Measured on 109 small real tables with three seeds each, against Ridge and logistic regression.
EPOCHS = 30  # at least, unless --epochs says how many
STEPS = 1000  # as many epochs as make so many steps, where 30 make fewer
DROPOUT = 0.2  # of a classifier
LR = 0.003  # of the optimizers that scale each step by the gradient's size, as Adam does
PRIOR = 10.0  # l2 times the training rows: what is known beforehand weighs less, the more rows
L2 = 0.1  # at most
KEEP = ("auto", "best", "last")
CHOOSERS = 20  # validation rows at least to choose an epoch by; the luck of fewer chooses worse

_TOLD = 1000  # steps by which two schedules are compared
_ADAPTIVE = ("adam", "adamw", "rmsprop")

# What a run may be taken up again with another value of.
_MAY_CHANGE = ("data", "epochs", "patience")


@dataclass(frozen=True, slots=True)
class Options:
    """What decides the result of a run; saved with the model, so that --resume repeats none."""

    data: str
    encoding: str | None
    missing: str | None
    decimal: str | None
    target: str | None
    hidden: tuple[int, ...]
    activation: str
    dropout: float | None
    loss: str | None
    optimizer: str
    lr: float | None
    schedule: str
    l2: float | None
    clip_norm: float | None
    epochs: int | None
    batch_size: int
    patience: int | None
    keep: str
    validation_fraction: float
    test_fraction: float
    seed: int
    threads: int | None
    gemm: str
    shares: int | None
    share_by: str

    @property
    def reading(self) -> Reading:
        """How a CSV file is to be read."""
        missing = None if self.missing is None else tuple(self.missing.split(","))
        return Reading(self.encoding, missing, self.decimal)

    @property
    def task(self) -> Task | None:
        """What the loss is for; None if it is chosen by the target."""
        if self.loss is None:
            return None
        return "classification" if LOSSES.get(self.loss).classifies else "regression"


def settle(options: Options, prepared: Prepared) -> Options:
    """Return the options with what the data decide filled in, such as loss and epochs."""
    classes = prepared.recipe.target.classes
    rows = len(prepared.rows.train)
    steps = -(-rows // min(options.batch_size, rows))
    given: dict[str, Any] = {
        "loss": "softmax_cross_entropy" if classes else "squared_error",
        "dropout": DROPOUT if classes else 0.0,
        "lr": LR if options.optimizer in _ADAPTIVE else None,
        "l2": min(L2, PRIOR / rows),
        "epochs": max(EPOCHS, -(-STEPS // steps)),
    }
    return replace(options, **{n: v for n, v in given.items() if getattr(options, n) is None})


def saved(trainer: Trainer, parameters: Iterable[click.Parameter], where: object) -> Options:
    """Return the options that a model was trained with.

    Args:
        trainer: the model.
        parameters: those of ``gpubp train``, whose types the values must be of.
        where: the folder, for the message.

    Raises:
        CheckpointError: the model does not say them, or not as ``gpubp train`` does.
    """
    kinds = {parameter.name: parameter for parameter in parameters}
    try:
        values = dict(trainer.extra["options"])
        if values.keys() != {field.name for field in fields(Options)}:
            raise KeyError(*values.keys() ^ {field.name for field in fields(Options)})
        values["hidden"] = tuple(values["hidden"])
        for name, value in values.items():
            _check(kinds[name], value)
        if None in (values["epochs"], values["loss"], values["l2"], values["dropout"]):
            raise ValueError("what the data decide is None")
        return Options(**values)
    except (KeyError, TypeError, ValueError, click.BadParameter) as error:
        said = error.format_message() if isinstance(error, click.BadParameter) else repr(error)
        raise CheckpointError(
            f"the model in {where} does not say how its run began ({said}); train anew with "
            "--overwrite"
        ) from error


def _check(parameter: click.Parameter, value: Any) -> None:
    """Check that a value is one that an option can have.

    Raises:
        ValueError, TypeError, click.BadParameter: it is not.
    """
    if value is None:
        if parameter.default is None:
            return
        raise ValueError(f"{parameter.name} is None")
    text = ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
    if parameter.type.convert(text, parameter, None) != value:
        raise ValueError(f"{parameter.name} is {value!r}")


def resumed(begun: Options, now: Mapping[str, Any], out: object) -> Options:
    """Return the options with which a run goes on.

    Args:
        begun: those that it began with.
        now: those that the command line gives.
        out: its folder, for the message.

    Raises:
        InputError: one is another, and may not be.
    """
    for name, value in now.items():
        before = getattr(begun, name)
        if value != before and name not in _MAY_CHANGE:
            raise InputError(
                f"{flag(name)} is {said(value)}, but the run in {out} began with {said(before)}; "
                "leave it out, or train anew without --resume"
            )
    return replace(begun, **{name: now[name] for name in _MAY_CHANGE if name in now})


def differing(there: Options, here: Options) -> list[str]:
    """Return in what two configurations differ, as ``--lr 0.01 there, 0.003 here``; data first."""
    if there.data != here.data:  # which decides some of the others
        here = replace(there, data=here.data)
    pairs = zip(asdict(there).items(), asdict(here).values(), strict=True)
    return [
        f"{flag(name)} {said(before)} there, {said(value)} here"
        for (name, before), value in pairs
        if value != before
    ]


def flag(name: str) -> str:
    """Return an option's name as it is written on the command line."""
    return "DATA" if name == "data" else f"--{name.replace('_', '-')}"


def said(value: object) -> str:
    """Return an option's value as it is written on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def same_so_far(options: Options, before: int, trainer: Trainer) -> bool:
    """Return whether the epochs done had the rates that a run of ``options.epochs`` has there.

    A run that was to have ``before`` epochs has them; where the schedule looks at the run's length
    they are others.
    """
    assert options.epochs is not None
    steps = trainer.step // max(trainer.epoch, 1)
    schedule = SCHEDULES.get(options.schedule).start()
    # Some of the steps tell: where one schedule leaves the other, it does not come back.
    some = np.linspace(0, max(trainer.epoch * steps - 1, 0), _TOLD, dtype=np.int64)
    then, now = (
        schedule.factors(some, Span(epochs * steps, steps)) for epochs in (before, options.epochs)
    )
    return bool((then == now).all())
