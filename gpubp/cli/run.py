"""A run of ``gpubp train``: its options, files, data and trainer, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

import click

from gpubp import checkpoint, files
from gpubp.callbacks import Callback, Checkpoint, EarlyStopping, HistoryCSV, ProgressLine
from gpubp.cli import model
from gpubp.cli.progress import compilation_shown
from gpubp.data.prepare import Prepared, prepare
from gpubp.data.table import load
from gpubp.data.target import Task
from gpubp.errors import InputError, SaveError
from gpubp.layers import Dense, Dropout, Layer
from gpubp.losses import LOSSES
from gpubp.network import Sequential
from gpubp.optimizers import OPTIMIZERS
from gpubp.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Options:
    """What decides the result of a run; saved with the model, so that --resume repeats none."""

    data: str
    target: str | None
    hidden: tuple[int, ...]
    activation: str
    dropout: float
    loss: str | None
    optimizer: str
    lr: float | None
    schedule: str
    l2: float
    clip_norm: float | None
    epochs: int
    batch_size: int
    patience: int | None
    validation_fraction: float
    test_fraction: float
    seed: int
    threads: int | None
    gemm: str
    shares: int | None
    share_by: str

    @property
    def task(self) -> Task | None:
        """What the loss is for; None if it is chosen by the target."""
        if self.loss is None:
            return None
        return "classification" if LOSSES.get(self.loss).classifies else "regression"


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a run."""

    folder: Path

    @property
    def model(self) -> Path:
        """The model, written after every epoch."""
        return self.folder / model.FILE

    @property
    def history(self) -> Path:
        """The losses and metrics of every epoch."""
        return self.folder / "history.csv"

    @property
    def curves(self) -> Path:
        """Their picture."""
        return self.folder / "curves.png"

    def check(self) -> None:
        """Make the folder and see that the files can be written, before time is spent on training.

        Raises:
            SaveError: they can't.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SaveError(
                f"cannot make the folder {str(self.folder)!r}: {error.strerror}; choose another "
                "with --out"
            ) from error
        for path in (self.model, self.history, self.curves):
            files.check_writable(path)


def prepare_data(options: Options) -> Prepared:
    """Return the data set, prepared and split as the options ask.

    Raises:
        InputError: it can't be used, or not with the loss.
    """
    prepared = prepare(
        load(options.data),
        target=options.target,
        task=options.task,
        # A network's output is the logarithm of a count's rate: near 0 without standardisation.
        standardise_target=options.loss != "poisson",
        validation=options.validation_fraction,
        test=options.test_fraction,
        seed=options.seed,
    )
    classes = len(prepared.recipe.target.classes)
    if options.loss == "sigmoid_cross_entropy" and classes != 2:
        raise InputError(
            f"the loss sigmoid_cross_entropy is for two classes, but {options.data} has {classes}; "
            "use softmax_cross_entropy"
        )
    return prepared


def new_trainer(options: Options, prepared: Prepared, place: Mapping[str, Any]) -> Trainer:
    """Return the trainer of a new run, on the device, backend and precision of ``place``.

    Raises:
        DeviceError: the device or backend can't be had.
    """
    classes = len(prepared.recipe.target.classes)
    loss = options.loss or ("softmax_cross_entropy" if classes else "squared_error")
    layers: list[Layer] = []
    for width in options.hidden:
        layers.append(Dense(width, options.activation))
        if options.dropout:
            layers.append(Dropout(options.dropout))
    layers.append(Dense(classes if loss == "softmax_cross_entropy" else 1))
    rate = {} if options.lr is None else {"lr": options.lr}
    trainer = Trainer(
        Sequential(*layers),
        loss,
        OPTIMIZERS.get(options.optimizer, **rate),
        options.schedule,
        **place,
        seed=options.seed,
        l2=options.l2,
        clip_norm=options.clip_norm,
        threads=options.threads,
        gemm=options.gemm,
        shares=options.shares,
        share_by=options.share_by,
    )
    trainer.extra = {
        "recipe": prepared.recipe.to_json(),
        "options": asdict(options),
        "complete": False,
    }
    return trainer


def describe(options: Options, prepared: Prepared, trainer: Trainer) -> None:
    """Say on what, where and with what is trained."""
    rows, target = prepared.rows, prepared.recipe.target
    model.describe(trainer)
    click.echo(f"data: {options.data}")
    for note in prepared.notes:
        click.echo(f"  {note}")
    click.echo(
        f"  rows: {len(rows.train)} for training, {len(rows.validation)} for validation, "
        f"{len(rows.test)} for the test"
    )
    if target.scale != 1:
        click.echo(f"  target standardised: losses count in units of {target.scale:g}")
    click.echo("network:")
    click.echo(indent(trainer.network.summary(prepared.X.shape[1]), "  "))


def fit(options: Options, prepared: Prepared, trainer: Trainer, paths: Files, resume: bool) -> bool:
    """Train with a checkpoint after every epoch; return False if Ctrl-C stopped it."""
    rows = prepared.rows
    X, y = model.arrays(trainer, prepared.X, prepared.y, rows.train)
    validation = None
    if len(rows.validation):
        validation = model.arrays(trainer, prepared.X, prepared.y, rows.validation)
    callbacks: list[Callback] = [ProgressLine(), HistoryCSV(paths.history)]
    if options.patience is not None:
        callbacks.append(EarlyStopping(patience=options.patience))
    callbacks.append(Checkpoint(paths.model))
    try:
        with compilation_shown():
            trainer.fit(
                X,
                y,
                options.epochs,
                min(options.batch_size, len(X)),
                validation_data=validation,
                callbacks=callbacks,
                resume=resume,
            )
    except KeyboardInterrupt:
        click.echo(f"gpubp: stopped; {_how_to_go_on(trainer, paths)}", err=True)
        return False
    trainer.extra["complete"] = True
    trainer.save(paths.model)
    return True


def _how_to_go_on(trainer: Trainer, paths: Files) -> str:
    if trainer.saved_to is None:
        return "the first epoch was not saved yet"
    _, document = checkpoint.load(paths.model)
    return (
        f"{paths.model} holds epoch {document['epoch']}; go on with: "
        f"gpubp train --resume --out {paths.folder}"
    )


def finish(prepared: Prepared, trainer: Trainer, paths: Files) -> None:
    """Test on the held-out rows, and write and name the files."""
    trainer.history.plot(paths.curves)
    test = prepared.rows.test
    if len(test):
        result = model.evaluate(trainer, prepared.recipe.target, prepared.X, prepared.y, test)
        click.echo(f"test: {result}, on {len(test)} rows that training has not seen")
    else:
        click.echo("test: none, because no rows were held out (--test-fraction)")
    click.echo(f"model: {paths.model}")
    click.echo(f"history: {paths.history}")
    click.echo(f"curves: {paths.curves}")
