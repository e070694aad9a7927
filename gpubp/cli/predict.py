"""``gpubp predict``: a CSV file of predictions, a line for each row of the data."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.core import ParameterSource
from numpy.typing import NDArray

from gpubp.cli import model
from gpubp.cli.output import Output
from gpubp.cli.progress import compilation_shown
from gpubp.data.prepare import Recipe
from gpubp.errors import InputError
from gpubp.trainer import Trainer


@click.command()
@model.argument
@click.argument("data")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="predictions.csv",
    show_default=True,
    help="The file to write; - for the standard output.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the file; without it one that is named is refused, and predictions.csv is put "
    "aside.",
)
@model.with_reading
@model.with_device
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model_path: Path,
    data: str,
    out: Path,
    overwrite: bool,
    encoding: str | None,
    decimal: str | None,
    **place: Any,
) -> None:
    """Write a model's predictions for the rows of DATA.

    MODEL is the file that 'gpubp train' wrote, or its folder. DATA is read and
    prepared as the training data was; it needs the same columns, but not the
    target. A class is written with the probability of every class. Every row
    has its line, in order. - is the standard input.

    \b
    Examples:
      gpubp predict gpubp-run new.csv
      gpubp predict gpubp-run/model.safetensors new.csv --out answers.csv
      gpubp predict gpubp-run new.csv --out - | head
      gunzip -c new.csv.gz | gpubp predict gpubp-run -
    """
    for path in (Path(data), model_path):
        if path.exists() and out.exists() and path.samefile(out):
            raise InputError(f"--out {out} would overwrite what is read from it; name another file")
    usual = ctx.get_parameter_source("out") == ParameterSource.DEFAULT
    output = Output(out, overwrite=overwrite, usual=usual)
    trainer, recipe = model.load_model(model_path, **place)
    model.describe(trainer, output.say)
    table = model.load_data(data, recipe, encoding, decimal)
    X, notes = recipe.preprocessing.apply(table)
    for note in (*table.notes, *notes):
        output.say(f"  {note}")
    with compilation_shown():
        columns = _columns(trainer, recipe, X)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    # As texts, because a float32 that became a Python float would show digits that it never had.
    texts = (column.astype(np.dtypes.StringDType()).tolist() for column in columns.values())
    writer.writerows(zip(*texts, strict=True))
    output.write(text.getvalue())
    blank = ""
    if table.blank:
        lines = "blank line of the data has" if table.blank == 1 else "blank lines of the data have"
        blank = f"; {table.blank} {lines} none"
    output.say(f"predictions: {out}, {len(X)} rows{blank}")


def _columns(trainer: Trainer, recipe: Recipe, X: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the columns of the file: predictions and, for classes, their probabilities."""
    target = recipe.target
    if not target.classes:
        return {target.name: target.decode(trainer.predict(X))}
    probabilities = trainer.predict_proba(X).reshape(len(X), -1)
    if probabilities.shape[1] == 1:  # that of the second of two classes
        probabilities = np.hstack([1 - probabilities, probabilities])
    names = np.array(target.classes, np.dtypes.StringDType())
    return {
        target.name: names[probabilities.argmax(axis=1)],
        **{f"p({name})": p for name, p in zip(target.classes, probabilities.T, strict=True)},
    }
