"""``gpubp explain``: the plan of a model's training step, and how it is computed here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gpubp.cli import model


@click.command()
@model.argument
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Rows of the minibatch.",
)
@model.with_device
def command(model_path: Path, batch_size: int, **place: Any) -> None:
    """Print what a training step of MODEL computes, call by call.

    It reads like a derivation of backpropagation for that network. On a CPU it
    also says into how many shares a minibatch is split, and what computes each
    matrix product, with the times by which that was chosen. MODEL is the file
    that 'gpubp train' wrote, or its folder.

    \b
    Example:
      gpubp explain gpubp-run
    """
    trainer, _ = model.load_model(model_path, **place)
    click.echo(trainer.explain(batch_size))
