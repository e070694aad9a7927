"""``gpubp train``: the options of a run; run.py does what they ask."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gpubp import devices
from gpubp.backends import GEMMS, SHARE_BY
from gpubp.cli import model, run
from gpubp.cli.params import Command, Name, Widths
from gpubp.errors import CheckpointError, InputError
from gpubp.kernels.spec import ACTIVATIONS
from gpubp.losses import LOSSES
from gpubp.optimizers import OPTIMIZERS
from gpubp.schedules import SCHEDULES
from gpubp.trainer import Trainer

_COUNT = click.IntRange(1)
_POSITIVE = click.FloatRange(0, min_open=True)
_SHARE = click.FloatRange(0, 1, max_open=True)


def _option(
    flag: str, kind: click.ParamType[Any], default: Any, text: str
) -> Callable[[Command], Command]:
    """Return an option; the help of one without a default says what happens without it."""
    return click.option(
        flag,
        type=kind,
        default=default,
        show_default=default is not None,
        metavar=kind.name.partition(" ")[0].upper(),
        help=text,
    )


def _named(
    flag: str, names: Iterable[str], default: str | None, text: str
) -> Callable[[Command], Command]:
    """Return an option that takes a name from a table, which its help lists."""
    kind = Name(flag.removeprefix("--"), names)
    return _option(flag, kind, default, f"{text}: {', '.join(names)}.")


@click.command()
@click.argument("data", default="digits")
@_option(
    "--target",
    click.STRING,
    None,
    "Column to predict; otherwise the one called target, label, class or y, or the last.",
)
@_option("--hidden", Widths(), "256,128", "Widths of the hidden layers, or none.")
@_named("--activation", ACTIVATIONS, "relu", "Activation of the hidden layers")
@_option("--dropout", _SHARE, 0.2, "Share of the hidden activations dropped in training.")
@_named("--loss", LOSSES, None, "Loss; it decides between classes and values, otherwise the target")
@_named("--optimizer", OPTIMIZERS, "adam", "Optimizer")
@_option("--lr", _POSITIVE, None, "Learning rate; otherwise the optimizer's own.")
@_named("--schedule", SCHEDULES, "cosine", "How the learning rate changes")
@_option(
    "--l2", click.FloatRange(0), 0.0, "Penalty on the weights: l2/2 times the sum of their squares."
)
@_option("--clip-norm", _POSITIVE, None, "Largest norm of a gradient; otherwise any.")
@_option("--epochs", _COUNT, 30, "Passes over the training rows.")
@_option("--batch-size", _COUNT, 32, "Rows of a minibatch; all, if there are fewer.")
@_option(
    "--patience",
    _COUNT,
    None,
    "Stop after so many epochs without a better validation loss, and keep the best.",
)
@_option("--validation-fraction", _SHARE, 0.1, "Share of the rows watched during training.")
@_option("--test-fraction", _SHARE, 0.2, "Share of the rows held out for the final test.")
@_option(
    "--seed",
    click.IntRange(0, 2**63 - 1),
    0,
    "Of the split, the initial weights, the shuffles and the dropout.",
)
@_option(
    "--threads", _COUNT, None, "Threads that share a minibatch on the CPU; otherwise one a core."
)
@_named("--gemm", GEMMS, "auto", "What computes matrix products on the CPU")
@_option(
    "--shares",
    _COUNT,
    None,
    "Shares that a minibatch is split into on the CPU; otherwise as many as pay.",
)
@_named("--share-by", SHARE_BY, "auto", "By what a step is split into shares on the CPU")
@_option(
    "--out",
    click.Path(path_type=Path),
    "gpubp-run",
    "Folder for the model, its history and the curves.",
)
@click.option(
    "--resume", is_flag=True, help="Go on with the run in the folder, from its last finished epoch."
)
@model.with_device
@click.pass_context
def command(
    ctx: click.Context,
    /,
    out: Path,
    resume: bool,
    device: str,
    backend: str | None,
    precision: str | None,
    **given: Any,
) -> None:
    """Train a network on DATA and test it on rows that it has not seen.

    DATA is a bundled set (digits, iris, wine, breast-cancer, diabetes), an .npz
    file or a CSV file with a header. What was done to the data is said. A
    target of texts or of few whole numbers is classified, any other is regressed.

    \b
    Examples:
      gpubp train
      gpubp train iris --hidden 16 --epochs 100
      gpubp train houses.csv --target price --lr 0.003 --schedule cosine
      gpubp train digits --out run1 --seed 1
      gpubp train --resume --out run1
    """
    options, files = run.Options(**given), run.Files(out)
    place: dict[str, Any] = {"device": device, "backend": backend, "precision": precision}
    # Before time is spent on the data.
    if resume:
        trainer, recipe = model.load_model(out, **place)
        options = _as_begun(ctx, options, trainer, out)
    else:
        place["precision"] = precision or "fp32"
        devices.check_precision(devices.resolve(device, backend), place["precision"])
    files.check()
    prepared = run.prepare_data(options)
    if not resume:
        if files.model.exists():
            click.echo(f"the earlier run in {out} is replaced")
        trainer = run.new_trainer(options, prepared, place)
    elif prepared.recipe != recipe:
        raise InputError(
            f"{options.data} does not hold the data that the run in {out} began with; resume with "
            "that, or train anew without --resume"
        )
    run.describe(options, prepared, trainer)
    if trainer.extra.get("complete"):
        click.echo(f"the run was complete after epoch {trainer.epoch}")
    elif not run.fit(options, prepared, trainer, files, resume):
        ctx.exit(1)
    run.finish(prepared, trainer, files)


def _as_begun(ctx: click.Context, options: run.Options, trainer: Trainer, out: Path) -> run.Options:
    """Return the options with which a run began; those on the command line may not differ."""
    try:
        saved = dict(trainer.extra["options"])
        begun = run.Options(**{**saved, "hidden": tuple(saved["hidden"])})
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"the model in {out} does not say how its run began; train anew without --resume"
        ) from error
    for name, before in asdict(begun).items():
        now = getattr(options, name)
        if now != before and ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise InputError(
                f"{name.replace('_', '-')} is {_said(now)}, but the run in {out} began with "
                f"{_said(before)}; leave it out, or train anew without --resume"
            )
    return begun


def _said(value: object) -> str:
    """Return an option's value as it is written on the command line."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
