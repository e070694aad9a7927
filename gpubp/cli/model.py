"""A model that ``gpubp train`` wrote, and what the commands do with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from gpubp import files
from gpubp.backends import DEVICES
from gpubp.cli.params import Command, GroupedOption, Name
from gpubp.cli.progress import compilation_shown
from gpubp.data.notation import DECIMALS
from gpubp.data.prepare import Recipe
from gpubp.data.table import Table, load
from gpubp.data.target import Target
from gpubp.devices import PRECISIONS
from gpubp.errors import InputError, SaveError
from gpubp.kernels.numba import compiled
from gpubp.trainer import Trainer

FILE = "model.safetensors"

_NO_GPU = " (not cuda, because "  # how devices.py begins to say why there is none

argument = click.argument("model_path", metavar="MODEL", type=click.Path(path_type=Path))


def with_device(command: Command) -> Command:
    """Give a command the options --device, --backend and --precision."""
    device = click.option(
        "--device",
        cls=GroupedOption,
        group="Device",
        default="auto",
        show_default=True,
        help="auto, cpu, cuda or cuda:1; auto follows $GPUBP_DEVICE.",
    )
    backend = click.option(
        "--backend",
        cls=GroupedOption,
        group="Device",
        type=Name("backend", DEVICES),
        help=f"{', '.join(DEVICES)}.  [default: the model's, or the fastest of the device]",
    )
    precision = click.option(
        "--precision",
        cls=GroupedOption,
        group="Device",
        type=Name("precision", PRECISIONS),
        help=f"{', '.join(PRECISIONS)}.  [default: the model's, or fp32]",
    )
    return device(backend(precision(command)))


def with_reading(command: Command) -> Command:
    """Give a command the options for how a CSV file is read."""
    encoding = click.option(
        "--encoding",
        cls=GroupedOption,
        group="Data",
        default=None,
        metavar="NAME",
        help="Encoding of a CSV file; otherwise UTF-8, UTF-16 or UTF-32, as its first bytes tell, "
        "or Windows-1252.",
    )
    decimal = click.option(
        "--decimal",
        cls=GroupedOption,
        group="Data",
        type=Name("decimal", DECIMALS),
        default=None,
        help=f"{' or '.join(DECIMALS)}, before the decimals of a CSV file's numbers; otherwise as "
        "its numbers tell.",
    )
    return encoding(decimal(command))


def load_data(data: str, recipe: Recipe, encoding: str | None, decimal: str | None) -> Table:
    """Return a table, read as the training data was where the file itself does not tell.

    Raises:
        InputError: there is none of that name, or it can't be read.
    """
    decimal = decimal or recipe.reading.decimal
    return load(data, replace(recipe.reading, encoding=encoding, decimal=decimal))


def load_model(
    path: Path, *, device: str, backend: str | None, precision: str | None
) -> tuple[Trainer, Recipe]:
    """Return the model in a file, or in the folder of a run, and its recipe.

    Raises:
        InputError: there is no such file, or the device lacks the precision.
        CheckpointError: it is not a model that ``gpubp train`` wrote.
        DeviceError: the device or backend can't be had.
    """
    file = check_there(path)
    trainer = Trainer.load(file, device=device, backend=backend, precision=precision)
    return trainer, Recipe.from_json(trainer.extra.get("recipe", {}))


def check_there(path: Path) -> Path:
    """Return the model's file, for a file or the folder of a run.

    Raises:
        InputError: there is none, or something that is no file.
    """
    file = path / FILE if path.is_dir() else path
    if not file.exists():
        raise InputError(f"there is no model {str(file)!r}; 'gpubp train' writes one")
    if not file.is_file():  # a pipe would be waited for
        raise InputError(
            f"{str(file)!r} is not a file, so it is no model; 'gpubp train' writes one"
        )
    return file


def describe(trainer: Trainer, say: Callable[[str], None] = click.echo) -> None:
    """Say where it is computed, and in what precision if that is not the usual one.

    Why no GPU is used, where none was asked for, is said once on a machine, and by 'gpubp devices'.
    """
    precision = "" if trainer.precision == "fp32" else f", in {trainer.precision}"
    where, why, advice = trainer.device_reason.partition(_NO_GPU)
    if why and _was_said(advice):
        why = advice = ""
    say(f"device: {where}{why}{advice}{precision}")


def _said() -> Path:
    """Return the file of the advice that was given on this machine."""
    return compiled.folder().parent / "advice"


def _was_said(advice: str) -> bool:
    """Return whether an earlier process has given this advice here; note that it is given now."""
    place = _said()
    try:
        if place.read_text(encoding="utf-8") == advice:
            return True
    except (OSError, ValueError):  # not there yet, or nothing of ours
        pass
    # A place that can't be written to only means that it is said again.
    with contextlib.suppress(SaveError):
        files.write(place, advice.encode())
    return False


def arrays(
    trainer: Trainer, X: NDArray[Any], y: NDArray[Any], rows: NDArray[np.intp]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return some of the rows; class ids as 0.0 and 1.0 where the loss takes them so."""
    ids = trainer.loss.kernel == "softmax_cross_entropy"
    return X[rows], y[rows] if ids else y[rows].astype(np.float32)


def evaluate(
    trainer: Trainer,
    target: Target,
    X: NDArray[Any],
    y: NDArray[Any],
    rows: NDArray[np.intp],
) -> str:
    """Return the metrics of a model on some of the rows as a phrase, in the target's unit."""
    with compilation_shown():
        metrics = trainer.evaluate(*arrays(trainer, X, y, rows))
    if target.classes:
        return f"accuracy {metrics['accuracy']:.4f}"
    return f"rmse {metrics['rmse'] * target.scale:.6g}, R2 {metrics['r2']:.4f}"
