"""``gpubp evaluate``: a model's predictions against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from gpubp.cli import model
from gpubp.data.prepare import with_target


@click.command()
@model.argument
@click.argument("data")
@model.with_reading
@model.with_device
def command(
    model_path: Path, data: str, encoding: str | None, decimal: str | None, **place: Any
) -> None:
    """Compare a model's predictions with the truth in DATA.

    MODEL is the file that 'gpubp train' wrote, or its folder. DATA needs the
    columns of the training data, the target among them. If it is the training
    data itself, the rows that were held out for the test are used. - is the
    standard input.

    \b
    Examples:
      gpubp evaluate gpubp-run digits
      gpubp evaluate gpubp-run/model.safetensors houses-2024.csv
    """
    trainer, recipe = model.load_model(model_path, **place)
    model.describe(trainer)
    table = model.load_data(data, recipe, encoding, decimal)
    read = table.notes
    seen = table.fingerprint() == recipe.fingerprint
    table, notes = with_target(table, recipe.target.name)
    X, filled = recipe.preprocessing.apply(table)
    for note in (*read, *notes, *filled):
        click.echo(f"  {note}")
    rows, which = np.arange(table.rows), "rows"
    if seen:
        held_out = recipe.split(table).test
        which = "rows, which it was trained on"
        if len(held_out):
            rows, which = held_out, "held-out rows of the data that it was trained on"
    result = model.evaluate(trainer, recipe.target, X, recipe.target.encode(table), rows)
    left_out = f"; {notes[0]}" if notes else ""
    click.echo(f"{result}, on {len(rows)} {which}{left_out}")
