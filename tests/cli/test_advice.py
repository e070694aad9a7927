"""What the library says of its arguments is said of options."""

import click
import pytest

from gpubp.cli.advice import in_options
from gpubp.cli.train import command


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("a lower learning rate, clip_norm=1.0, or", "a lower learning rate, --clip-norm 1.0, or"),
        ("precision='fp32' goes on with it", "--precision fp32 goes on with it"),
        ("or use device 'cpu'", "or use --device cpu"),
        ("device 'cuda' can't be had: x; or use backend 'numpy'",
         "device 'cuda' can't be had: x; or use --backend numpy"),
        ("the largest batch_size that fits is 64", "the largest --batch-size that fits is 64"),
        ("--batch-size is there", "--batch-size is there"),
        ("column 'batch_size' has 'epochs=3'", "column 'batch_size' has 'epochs=3'"),
        ("squared_error is for one output", "squared_error is for one output"),
        ("my_batch_size.csv, line 2", "my_batch_size.csv, line 2"),
        ("No checkpoint was kept; callbacks=[Checkpoint(path)] keeps one.",
         "No epoch was saved yet."),
        ("there is no run to resume; call fit with resume=False",
         "there is no run to resume; train anew with --overwrite"),
    ],
)  # fmt: skip
def test_arguments_become_options(said, expected):
    assert in_options(said, command.params) == expected


def test_a_command_without_the_option_says_what_the_library_says():
    assert in_options("clip_norm=1.0", [click.Option(["--kernels"])]) == "clip_norm=1.0"
    assert in_options("clip_norm=1.0", []) == "clip_norm=1.0"


def test_a_loss_that_is_not_finite(gpubp):
    result = gpubp("train", "diabetes", "--lr", "1e30", "--hidden", "8", "--optimizer", "sgd")
    assert result.code == 1
    assert "--clip-norm 1.0" in result.err
    assert "No epoch was saved yet" in result.err
    assert "callbacks" not in result.err
