"""The command, run in this process, and small files to run it on."""

import csv
import os
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from gpubp.cli import model
from gpubp.cli.main import main

# Little enough to be trained in a moment.
SMALL = ("--hidden", "8", "--epochs", "3", "--backend", "numpy")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    advice = tmp_path_factory.mktemp("said") / "advice"
    monkeypatch.setattr(model, "_said", lambda: advice)
    monkeypatch.delenv("GPUBP_DEVICE", raising=False)


@pytest.fixture
def gpubp():
    """Run a command line; return its exit code and what it wrote."""

    def run(*arguments):
        result = CliRunner().invoke(main, [os.fspath(argument) for argument in arguments])
        assert "Traceback" not in result.stderr or "--debug" in arguments
        return SimpleNamespace(
            code=result.exit_code,
            out=result.stdout,
            err=result.stderr,
            errors=result.stderr.splitlines(),
        )

    return run


@pytest.fixture
def passengers(tmp_path):
    """A CSV of numbers, texts and missing values; who survives depends on all of them."""
    rng = np.random.default_rng(5)
    rows = []
    for index in range(300):
        age, sex, deck = (
            rng.integers(1, 80),
            rng.choice(["male", "female"]),
            rng.choice(list("ABC")),
        )
        lives = (sex == "female") * 2 + (deck == "A") - age / 40 + rng.normal(0, 0.2) > 0
        rows.append(
            {
                "name": f"Passenger {index}",
                "age": "" if index % 9 == 0 else age,
                "sex": sex,
                "deck": "" if index % 7 == 0 else deck,
                "ship": "Titanic",
                "survived": "yes" if lives else "no",
            }
        )
    return write(tmp_path / "passengers.csv", rows)


@pytest.fixture
def houses(tmp_path):
    """A CSV for a regression: the price depends on size and town."""
    rng = np.random.default_rng(6)
    rows = []
    for index in range(300):
        size, town = rng.uniform(40, 200), rng.choice(["Bern", "Basel", "Chur"])
        price = 5000 * size + 2e5 * (town == "Bern") + rng.normal(0, 1e4)
        rows.append({"size": "NA" if index % 60 == 0 else size, "town": town, "price": price})
    return write(tmp_path / "houses.csv", rows)


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
