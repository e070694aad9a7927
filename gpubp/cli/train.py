"""``gpubp train``: the options of a run; run.py does what they ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gpubp import devices
from gpubp.backends import GEMMS, MOST_THREADS, SHARE_BY
from gpubp.cli import folder, model, run
from gpubp.cli import options as settings
from gpubp.cli.options import Options
from gpubp.cli.params import Command, GroupedCommand, GroupedOption, Name, Named, Number, Widths
from gpubp.errors import InputError
from gpubp.kernels.spec import ACTIVATIONS
from gpubp.losses import LOSSES
from gpubp.optimizers import OPTIMIZERS
from gpubp.schedules import SCHEDULES
from gpubp.trainer import Trainer

_COUNT = click.IntRange(1, 10**9)
_POSITIVE = Number(0, min_open=True)
_SHARE = Number(0, 1, max_open=True)
_COMMANDLINE = ParameterSource.COMMANDLINE


def _option(
    group: str, flag: str, kind: click.ParamType[Any], default: Any, text: str
) -> Callable[[Command], Command]:
    """Return an option; the help of one without a default says what happens without it."""
    return click.option(
        flag,
        cls=GroupedOption,
        group=group,
        type=kind,
        default=default,
        show_default=default is not None,
        metavar=kind.name.partition(" ")[0].upper(),
        help=text,
    )


def _named(
    group: str, flag: str, names: Iterable[str], default: str | None, text: str
) -> Callable[[Command], Command]:
    """Return an option that takes a name from a table, which its help lists."""
    kind = Name(flag.removeprefix("--"), names)
    return _option(group, flag, kind, default, f"{text}: {', '.join(names)}.")


@click.command(cls=GroupedCommand)
@click.argument("data", default="digits")
@_option(
    "Data",
    "--target",
    click.STRING,
    None,
    "Column to predict; otherwise the one called target, label, class or y, or the last.",
)
@_option(
    "Data",
    "--missing",
    click.STRING,
    None,
    "Texts that stand for a missing value, besides none at all, such as 'unknown,-'; otherwise "
    "those of pandas, such as NA, N/A, NaN, null, #N/A, and ?; None is one among numbers, and a "
    "class or category among texts.  '' is for none of these.",
)
@_option("Data", "--validation-fraction", _SHARE, 0.1, "Share of the rows to choose the epoch by.")
@_option("Data", "--test-fraction", _SHARE, 0.2, "Share of the rows held out for the final test.")
@_option("Network", "--hidden", Widths(), "256,128", "Widths of the hidden layers, or none.")
@_named("Network", "--activation", ACTIVATIONS, "relu", "Activation of the hidden layers")
@_option(
    "Network",
    "--dropout",
    _SHARE,
    None,
    "Share of the hidden activations dropped in training; otherwise "
    f"{settings.DROPOUT:g} for classes and none for values.",
)
@_named(
    "Network",
    "--loss",
    LOSSES,
    None,
    "Loss; it decides between classes and values, otherwise the target",
)
@_option(
    "Training",
    "--epochs",
    _COUNT,
    None,
    f"Passes over the training rows; otherwise {settings.EPOCHS}, or as many as make "
    f"{settings.STEPS} minibatches.",
)
@_option("Training", "--batch-size", _COUNT, 32, "Rows of a minibatch; all, if there are fewer.")
@_named("Training", "--optimizer", OPTIMIZERS, "adam", "Optimizer")
@_option(
    "Training",
    "--lr",
    _POSITIVE,
    None,
    f"Learning rate; otherwise {settings.LR:g} for adam, adamw and rmsprop, and for the others "
    "their own.",
)
@_named("Training", "--schedule", SCHEDULES, "cosine", "How the learning rate changes")
@_option(
    "Training",
    "--l2",
    Number(0),
    None,
    "Penalty on the weights: l2/2 times the sum of their squares; otherwise l2 is "
    f"{settings.PRIOR:g} divided by the training rows, {settings.L2:g} at most.",
)
@_option("Training", "--clip-norm", _POSITIVE, None, "Largest norm of a gradient; otherwise any.")
@_named(
    "Training",
    "--keep",
    settings.KEEP,
    "auto",
    "Which epoch's weights; auto is the best by validation loss if "
    f"{settings.CHOOSERS} rows or more tell it, otherwise the last",
)
@_option(
    "Training",
    "--patience",
    _COUNT,
    None,
    "Stop after so many epochs without a better validation loss; otherwise never.",
)
@_option(
    "Training",
    "--seed",
    click.IntRange(0, 2**63 - 1),
    0,
    "Of the split, the initial weights, the shuffles and the dropout.",
)
@_option(
    "Device",
    "--threads",
    click.IntRange(1, MOST_THREADS),
    None,
    "Threads that share a minibatch on the CPU; otherwise one a core.",
)
@_named("Advanced", "--gemm", GEMMS, "auto", "What computes matrix products on the CPU")
@_option(
    "Advanced",
    "--shares",
    click.IntRange(1, MOST_THREADS),
    None,
    "Shares that a minibatch is split into on the CPU; otherwise as many as pay.",
)
@_named(
    "Advanced", "--share-by", SHARE_BY, "auto", "By what a step is split into shares on the CPU"
)
@_option(
    "Run",
    "--out",
    Named(path_type=Path),
    "gpubp-run",
    "Folder for the model, its history and the curves.",
)
@click.option(
    "--resume",
    cls=GroupedOption,
    group="Run",
    is_flag=True,
    help="Go on with the run in the folder from its last finished epoch; with a larger --epochs "
    "also if it has ended.",
)
@click.option(
    "--overwrite",
    cls=GroupedOption,
    group="Run",
    is_flag=True,
    help="Replace the model in the folder; without it a run in a folder that is named is refused, "
    "and one in gpubp-run is put aside.",
)
@model.with_reading
@model.with_device
@click.pass_context
def command(
    ctx: click.Context,
    /,
    out: Path,
    resume: bool,
    overwrite: bool,
    device: str,
    backend: str | None,
    precision: str | None,
    **given: Any,
) -> None:
    """Train a network on DATA and test it on rows that it has not seen.

    DATA is a bundled set (digits, iris, wine, breast-cancer, diabetes), an .npz
    file, a CSV file with a header, which gzip may have packed, or - for one on
    the standard input. What was done to the data is said. A target of texts or
    of few whole numbers is classified, any other is regressed.

    \b
    Examples:
      gpubp train
      gpubp train iris --hidden 16 --epochs 100
      gpubp train houses.csv --target price --lr 0.003 --schedule cosine
      gpubp train digits --out run1 --seed 1
      gpubp train --resume --out run1
      gpubp train --resume --out run1 --epochs 100
    """
    place: dict[str, Any] = {"device": device, "backend": backend, "precision": precision}
    paths = folder.Files(out)
    if resume and overwrite:
        raise InputError("--resume goes on with a run and --overwrite begins anew; say one of them")
    if resume:
        model.check_there(out)
    else:  # before a folder is made and time is spent on the data
        place["precision"] = precision or "fp32"
        devices.check_precision(devices.resolve(device, backend), place["precision"])
    with folder.locked(out):
        (_resume if resume else _begin)(ctx, paths, given, place)


def _begin(
    ctx: click.Context, paths: folder.Files, given: dict[str, Any], place: dict[str, Any]
) -> None:
    """Train anew."""
    paths.check()
    options = Options(**given)
    prepared = run.prepare_data(options)
    options = settings.settle(options, prepared)
    found = None if ctx.params["overwrite"] else folder.held(paths, options, prepared.recipe)
    if found is not None and found.same and found.complete:
        trainer, _ = model.load_model(paths.folder, **place)
        run.describe(options, prepared, trainer)
        click.echo(
            f"{paths.folder} holds this very run, which ended after epoch {found.epoch}: --resume "
            f"--epochs {2 * found.epoch} goes on with it, --overwrite trains it anew"
        )
        run.finish(options, prepared, trainer, paths)
        return
    usual = ctx.get_parameter_source("out") == ParameterSource.DEFAULT
    if found is not None and (found.same or not usual):
        raise folder.refuse(paths, found)
    trainer = run.new_trainer(options, prepared, place, paths.way_to(options.data))
    run.describe(options, prepared, trainer)
    if found is not None:
        click.echo(f"the earlier run is in {folder.put_aside(paths)} now")
    elif paths.model.exists():
        click.echo(f"the earlier model in {paths.folder} is replaced, as asked")
    run.fit(options, prepared, trainer, paths, resume=False)
    run.finish(options, prepared, trainer, paths)


def _resume(
    ctx: click.Context, paths: folder.Files, given: dict[str, Any], place: dict[str, Any]
) -> None:
    """Go on with a run."""
    trainer, recipe = model.load_model(paths.folder, **place)
    begun = settings.saved(trainer, ctx.command.params, paths.folder)
    now = {n: v for n, v in given.items() if ctx.get_parameter_source(n) == _COMMANDLINE}
    options = settings.resumed(begun, now, paths.folder)
    here = options.data if "data" in now else paths.found(begun.data, trainer.extra.get("data"))
    paths.check()
    prepared = run.prepare_data(replace(options, data=here))
    if prepared.recipe != recipe:
        raise InputError(
            f"{here} does not hold the data that the run in {paths.folder} began with"
            f"{'' if here == begun.data else f' ({begun.data})'}; resume with that, or train anew "
            "without --resume"
        )
    if "data" in now:
        trainer.extra["data"] = paths.way_to(here)
    run.describe(replace(options, data=here), prepared, trainer)
    if _goes_on(options, begun, trainer):
        run.fit(options, prepared, trainer, paths, resume=True)
    else:
        click.echo(f"the run was complete after epoch {trainer.epoch}; a larger --epochs goes on")
    run.finish(options, prepared, trainer, paths)


def _goes_on(options: Options, begun: Options, trainer: Trainer) -> bool:
    """Return whether there is something left to train; say if it will be as if never ended."""
    epochs, before = options.epochs, begun.epochs
    assert epochs is not None
    assert before is not None
    if epochs < trainer.epoch:
        raise InputError(
            f"--epochs {epochs} is the whole run's, and {trainer.epoch} are done; say more, or "
            "train anew without --resume"
        )
    complete = bool(trainer.extra.get("complete"))
    if epochs != before:
        alike = settings.same_so_far(options, before, trainer)
        fell = "sooner" if epochs > before else "later"
        click.echo(
            f"the run has {epochs} epochs now, {before} before: it ends as one that had them from "
            "the start"
            + ("" if alike else f", but not bit for bit, because its learning rates fell {fell}")
        )
    return not complete or epochs > trainer.epoch or options.patience != begun.patience
