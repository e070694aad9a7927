"""A run of ``gpubp train``: its data, its trainer, its epochs, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from textwrap import indent
from typing import Any

import click
import numpy as np

from gpubp import checkpoint
from gpubp.callbacks import Callback, Checkpoint, EarlyStopping
from gpubp.cli import model
from gpubp.cli.folder import Files
from gpubp.cli.options import CHOOSERS, Options
from gpubp.cli.progress import compilation_shown
from gpubp.cli.units import Line, Table, Units
from gpubp.data.prepare import Prepared, prepare
from gpubp.data.table import load
from gpubp.errors import InputError
from gpubp.layers import Dense, Dropout, Layer
from gpubp.network import Sequential
from gpubp.optimizers import OPTIMIZERS
from gpubp.trainer import Trainer

_ENDLESS = 2**31  # a patience that no run tries
_SAVE_SECONDS = 1.0  # from one save to the next: epochs of a small table take less than a save


def prepare_data(options: Options) -> Prepared:
    """Return the data set, prepared and split as the options ask.

    Raises:
        InputError: it can't be used, or not with the loss.
    """
    prepared = prepare(
        load(options.data, options.reading),
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


def new_trainer(
    options: Options, prepared: Prepared, place: Mapping[str, Any], way: str | None
) -> Trainer:
    """Return the trainer of a new run.

    Args:
        options: all of them settled.
        prepared: its data.
        place: device, backend and precision.
        way: to the data from the run's folder.

    Raises:
        DeviceError: the device or backend can't be had.
        DeviceMemoryError: the machine has not the memory that the network needs.
    """
    assert options.loss is not None
    assert options.l2 is not None
    classes = len(prepared.recipe.target.classes)
    layers: list[Layer] = []
    for width in options.hidden:
        layers.append(Dense(width, options.activation))
        if options.dropout:
            layers.append(Dropout(options.dropout))
    layers.append(Dense(classes if options.loss == "softmax_cross_entropy" else 1))
    rate = {} if options.lr is None else {"lr": options.lr}
    trainer = Trainer(
        Sequential(*layers),
        options.loss,
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
    trainer.extra = {"recipe": prepared.recipe.to_json(), "data": way}
    trainer.initialize(prepared.X.shape[1])
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
        shown = "what is shown is in its own unit"
        if units(prepared, trainer).loss(1.0) == 1.0:
            shown += ", but losses, which are of the standardised target"
        click.echo(f"  target standardised for training; {shown}")
    click.echo("network:")
    click.echo(indent(trainer.network.summary(prepared.X.shape[1]), "  "))
    click.echo(f"training: {_training(options)}")


def _training(options: Options) -> str:
    """Return what the network is trained with, the values that the data decided included."""
    dropout = f", dropout {options.dropout:g}" if options.dropout else ""
    rate = f", lr {options.lr:g}" if options.lr is not None else ""
    epochs = f"{options.epochs} epoch{'s' * (options.epochs != 1)}"
    return (
        f"{epochs} of {options.optimizer}{rate}, schedule {options.schedule}, l2 {options.l2:g}"
        f"{dropout}"
    )


def units(prepared: Prepared, trainer: Trainer) -> Units:
    """Return the units in which the run's numbers are shown."""
    return Units.of(trainer.loss, prepared.recipe.target.scale)


def fit(options: Options, prepared: Prepared, trainer: Trainer, paths: Files, resume: bool) -> None:
    """Train with a checkpoint after every epoch, or about every second if that is less often.

    Raises:
        Abort: a signal stopped it, and the last finished step is kept; the text says how to go on.
    """
    rows, shown = prepared.rows, units(prepared, trainer)
    X, y = model.arrays(trainer, prepared.X, prepared.y, rows.train)
    validation = None
    if len(rows.validation):
        validation = model.arrays(trainer, prepared.X, prepared.y, rows.validation)
    callbacks: list[Callback] = [Line(shown), Table(paths.history, shown)]
    stopping = _stopping(options, len(rows.validation))
    if stopping is not None:
        callbacks.append(stopping)
    trainer.extra |= {"options": asdict(options), "complete": False}
    keeper = Checkpoint(paths.model, seconds=_SAVE_SECONDS)
    callbacks.append(keeper)
    assert options.epochs is not None
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
    except KeyboardInterrupt as signal:
        keeper.keep(trainer)
        raise click.Abort(f"stopped; {_how_to_go_on(trainer, paths)}") from signal
    best = stopping.best_epoch if stopping is not None and stopping.restore_best else 0
    trainer.extra |= {"complete": True, "kept": best or trainer.epoch}
    trainer.extra["stopped"] = stopping is not None and stopping.stopped_epoch > 0
    trainer.save(paths.model)


def _stopping(options: Options, watched: int) -> EarlyStopping | None:
    """Return what keeps the best epoch and ends the run; None where nothing does.

    ``watched`` are the validation rows.
    """
    if options.patience is not None:
        monitor = "val_loss" if watched else "loss"
        best = options.keep != "last"
        return EarlyStopping(monitor, patience=options.patience, restore_best=best)
    if options.keep == "last" or watched < (CHOOSERS if options.keep == "auto" else 1):
        return None
    return EarlyStopping(patience=_ENDLESS)


def _how_to_go_on(trainer: Trainer, paths: Files) -> str:
    if trainer.saved_to is None:
        return "no step was finished yet"
    _, document = checkpoint.load(paths.model)
    run, row = document["run"], document["progress"]["row"]
    more = ""
    if row:
        steps = -(-row // run["batch_size"])
        more = f" and {steps} of the next epoch's {run['steps_per_epoch']} steps"
    return (
        f"{paths.model} holds epoch {document['epoch']}{more}; go on with: "
        f"gpubp train --resume --out {paths.folder}"
    )


def finish(options: Options, prepared: Prepared, trainer: Trainer, paths: Files) -> None:
    """Draw and name the files, and last of all test on the held-out rows."""
    kept = trainer.extra.get("kept")
    kept = kept if isinstance(kept, int) else trainer.epoch
    watched = len(prepared.rows.validation)
    click.echo(_kept(options, trainer, kept, watched))
    history = units(prepared, trainer).history(trainer.history)
    drawn = True
    try:
        history.plot(paths.curves, kept=kept if watched else None)
    except Exception as error:  # a run is not lost for its picture
        drawn = False
        said = " ".join(f"{type(error).__name__}: {error}".split())
        click.echo(f"gpubp: warning: the curves can't be drawn ({said})", err=True)
    click.echo(f"model: {paths.model}")
    click.echo(f"history: {paths.history}")
    if drawn:
        click.echo(f"curves: {paths.curves}")
    click.echo(_test(prepared, trainer))


def _kept(options: Options, trainer: Trainer, kept: int, watched: int) -> str:
    """Return which epoch's weights the model has, and why; ``watched`` are the validation rows."""
    ended = f"; --patience {options.patience} ended the run" if trainer.extra.get("stopped") else ""
    if options.keep == "last":
        why = "the last, as asked"
    elif _stopping(options, watched) is not None:
        why = f"the best by {'validation' if watched else 'training'} loss"
    elif watched:
        why = f"the last, because {watched} validation rows are too few to choose by (--keep best)"
    else:
        why = "the last, because no rows were held out to choose by (--validation-fraction)"
    return f"kept: epoch {kept} of {trainer.epoch}, {why}{ended}"


def _test(prepared: Prepared, trainer: Trainer) -> str:
    """Return the score on the held-out rows, beside that of an answer that needs no network."""
    rows, target = prepared.rows, prepared.recipe.target
    gone = prepared.left_out
    left_out = f"; left out {gone} rows without a value in {target.name!r}" if gone else ""
    if not len(rows.test):
        return f"test: none, because no rows were held out (--test-fraction){left_out}"
    result = model.evaluate(trainer, target, prepared.X, prepared.y, rows.test)
    seen, truth = (np.asarray(prepared.y)[which] for which in (rows.train, rows.test))
    if target.classes:
        frequent = int(np.bincount(seen).argmax())
        other = (
            f"the most frequent class, {target.classes[frequent]}, "
            f"would be right in {np.mean(truth == frequent):.4f}"
        )
    else:
        mean = seen.mean(dtype=np.float64)
        rmse = float(np.sqrt(np.mean((truth - mean) ** 2))) * target.scale
        other = f"the mean, {float(target.decode(mean)):.6g}, would have rmse {rmse:.6g}"
    return (
        f"test: {result}, on {len(rows.test)} rows that training has not seen; always answering "
        f"{other}{left_out}"
    )
