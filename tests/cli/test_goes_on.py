"""``gpubp train --resume`` with more epochs, more patience, and from elsewhere."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from gpubp import checkpoint
from gpubp.trainer import Trainer

from .test_train import assert_equal_models

RUN = Path("gpubp-run")
OPTIONS = ("iris", "--hidden", "8", "--backend", "numpy", "--lr", "0.01", "--keep", "best")


@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_a_run_that_ended_goes_on_to_where_a_longer_one_ends(gpubp, schedule):
    options = (*OPTIONS, "--schedule", schedule)
    assert gpubp("train", *options, "--epochs", "14", "--out", "whole").code == 0
    assert gpubp("train", *options, "--epochs", "9", "--out", "parts").code == 0
    result = gpubp("train", "--resume", "--epochs", "14", "--out", "parts")
    assert result.code == 0, result.err
    said = "the run has 14 epochs now, 9 before: it ends as one that had them from the start\n"
    assert said in result.out
    assert "of 14, the best by validation loss" in result.out
    assert_equal_models("whole", "parts")


def test_a_schedule_that_looks_at_the_end_is_said(gpubp):
    assert gpubp("train", *OPTIONS, "--epochs", "9").code == 0
    result = gpubp("train", "--resume", "--epochs", "14")
    assert result.code == 0, result.err
    assert "but not bit for bit, because its learning rates fell sooner" in result.out
    rates = Trainer.load(RUN / "model.safetensors").history.column("lr")
    steps = 4 * np.arange(1, 15) - 1  # 105 rows in minibatches of 32; the last step of each epoch
    ends = np.where(steps < 36, 36, 56)
    np.testing.assert_allclose(rates, 0.01 * (1 + np.cos(np.pi * steps / ends)) / 2, rtol=1e-12)


def test_fewer_epochs_than_are_done(gpubp):
    assert gpubp("train", *OPTIONS, "--epochs", "5").code == 0
    result = gpubp("train", "--resume", "--epochs", "4")
    assert result.code == 2
    assert "--epochs 4 is the whole run's, and 5 are done; say more" in result.err


def test_more_patience(gpubp):
    options = (*OPTIONS, "--lr", "0.5", "--schedule", "constant", "--epochs", "60")
    assert gpubp("train", *options, "--patience", "8", "--out", "whole").code == 0
    first = gpubp("train", *options, "--patience", "2", "--out", "parts")
    assert "; --patience 2 ended the run" in first.out
    assert gpubp("train", "--resume", "--patience", "8", "--out", "parts").code == 0
    assert_equal_models("whole", "parts")


@pytest.mark.parametrize("move", [False, True])
def test_its_data_are_found_from_another_folder(gpubp, passengers, tmp_path, monkeypatch, move):
    """By the way from the run to them, so also where both were moved together."""
    place = tmp_path / "place"
    place.mkdir()
    shutil.move(passengers, place)
    monkeypatch.chdir(place)
    options = ("passengers.csv", "--hidden", "8", "--epochs", "2", "--backend", "numpy")
    assert gpubp("train", *options).code == 0
    monkeypatch.chdir(tmp_path)
    if move:
        place = place.rename("moved")
    (tmp_path / "passengers.csv").write_text("a,b\n1,2\n")  # another file of that name
    result = gpubp("train", "--resume", "--epochs", "3", "--out", place.name + "/gpubp-run")
    assert result.code == 0, result.err
    assert f"data: {place.name}/passengers.csv" in result.out


def test_its_data_may_be_named_anew(gpubp, passengers, tmp_path):
    options = ("--hidden", "8", "--epochs", "2", "--backend", "numpy")
    assert gpubp("train", "passengers.csv", *options).code == 0
    passengers.rename(tmp_path / "renamed.csv")
    assert "there is no file 'passengers.csv'" in gpubp("train", "--resume").err
    result = gpubp("train", "renamed.csv", "--resume", "--epochs", "3")
    assert result.code == 0, result.err
    assert gpubp("train", "--resume", "--epochs", "4").code == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 1.5), ("epochs", "3"), ("epochs", None), ("epochs", 10**20), ("hidden", "8"),
        ("hidden", [0]), ("seed", None), ("seed", -1), ("validation_fraction", 5),
        ("validation_fraction", float("nan")), ("test_fraction", "x"), ("batch_size", 0),
        ("patience", -1), ("l2", None), ("dropout", None), ("loss", None),
        ("loss", "os.system"), ("data", 5), ("keep", "worst"), ("nonsense", 1),
    ],
)  # fmt: skip
def test_options_that_no_command_line_could_have_given(gpubp, name, value):
    assert gpubp("train", *OPTIONS, "--epochs", "2").code == 0
    tensors, document = checkpoint.load(RUN / "model.safetensors")
    document["extra"]["options"][name] = value
    checkpoint.save(RUN / "model.safetensors", tensors, document)
    result = gpubp("train", "--resume")
    assert result.code == 1
    assert "does not say how its run began" in result.err
    assert len(result.errors) == 1
