"""What a run keeps: the file holds what the trainer ends with; how validation is weighted."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import gpubp
from gpubp import callbacks
from gpubp.callbacks import Checkpoint, EarlyStopping
from gpubp.errors import InputError
from gpubp.optimizers import SGD

BACKENDS = ("numpy", "numba")
# Gradient descent on ½ (b - 1)² with rate 2.1: b is 2.1, -0.21, 2.331, ..., each further from 1.
X, Y = np.zeros((4, 1)), np.ones(4)


def run(backend: str, epochs: int, *callbacks, **settings) -> gpubp.Trainer:
    network = gpubp.Sequential(gpubp.Dense(1))
    trainer = gpubp.Trainer(
        network, "squared_error", SGD(lr=2.1), backend=backend, device="cpu", precision="fp64"
    )
    trainer.fit(X, Y, epochs, 4, validation_data=(X, Y), callbacks=callbacks, **settings)
    return trainer


def bias(trainer: gpubp.Trainer) -> float:
    return float(trainer.named_parameters()["b1"][0])


def ends_after_3(trainer: gpubp.Trainer, record: dict[str, float]) -> bool:
    return record["epoch"] == 3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("every", [1, 4, 100])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("epochs", "more", "last"),
    [(6, (), 6), (50, (), 6), (50, (ends_after_3,), 3)],
    ids=["the last epoch", "patience", "a function"],
)
def test_the_file_holds_what_the_trainer_ends_with(
    backend: str, every: int, first: bool, epochs: int, more: tuple, last: int, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    callbacks = [Checkpoint(path, every=every), EarlyStopping(patience=5), *more]
    trainer = run(backend, epochs, *(callbacks if first else reversed(callbacks)))
    assert trainer.epoch == last
    assert bias(trainer) == pytest.approx(2.1)
    kept = gpubp.Trainer.load(path)
    assert (kept.epoch, bias(kept)) == (last, bias(trainer))
    assert kept.predict(X).tolist() == trainer.predict(X).tolist()


def test_saves_may_be_seconds_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs of 0.4 s, saves 1 s apart: the first epoch, then the fourth; and the last one."""
    clock = {"now": 0.0}
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: clock["now"])
    path, held = tmp_path / "m", []

    def later(trainer: gpubp.Trainer, record: dict[str, float]) -> None:
        clock["now"] += 0.4
        if path.exists():
            held.append(gpubp.Trainer.load(path).epoch)

    run("numpy", 6, Checkpoint(path, seconds=1.0), later)
    assert held == [1, 1, 1, 4, 4]  # the file is written after all other callbacks
    assert gpubp.Trainer.load(path).epoch == 6
    with pytest.raises(InputError, match="seconds must be a finite number at least 0, got -1"):
        Checkpoint(path, seconds=-1)


def test_without_early_stopping_it_is_the_last_epoch(tmp_path: Path) -> None:
    trainer = run("numpy", 6, Checkpoint(tmp_path / "m", every=4))
    kept = gpubp.Trainer.load(tmp_path / "m")
    assert (kept.epoch, bias(kept)) == (6, bias(trainer))


def weighted(backend: str, w: np.ndarray, **validation) -> dict[str, float]:
    """A record of a network that does not learn: all of its losses are of one set of parameters."""
    rng = np.random.default_rng(1)
    X, y = np.repeat(rng.normal(size=(1, 3)), len(w), 0), np.full(len(w), 0.5)
    trainer = gpubp.Trainer(
        gpubp.Sequential(gpubp.Dense(1)), "squared_error", SGD(lr=1e-300),
        backend=backend, device="cpu", precision="fp64",
    )  # fmt: skip
    if "validation_data" in validation:
        validation["validation_data"] = (X, y, *validation["validation_data"])
    trainer.fit(X, y, 1, 5, sample_weight=w, **validation)
    return trainer.history[-1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_weights_of_validation_data(backend: str) -> None:
    """All rows are alike, so a loss is the mean weight times that of one row."""
    two = np.full(20, 2.0)
    record = weighted(backend, two, validation_data=())
    assert record["val_loss"] == pytest.approx(record["loss"] / 2)  # not weighted
    for validation in ({"validation_data": (two,)}, {"validation_fraction": 0.25}):
        record = weighted(backend, two, **validation)
        assert record["val_loss"] == pytest.approx(record["loss"])
    half = np.r_[np.zeros(10), np.ones(10)]
    record = weighted(backend, two, validation_data=(half,))
    assert record["val_loss"] == pytest.approx(record["loss"] / 4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((X,), "validation_data is a tuple of 1, but needs"),
        ((X, Y, Y, Y), "tuple of 4"),
        (X, r"is a ndarray, but needs \(X, y\)"),
        ("Xy", "is a str, but needs"),
        ((X, Y, -Y), "sample_weight has -1"),
        ((X, Y, 0 * Y), "0 in every row"),
    ],
)
def test_validation_data_of_another_form(given: object, said: str) -> None:
    network = gpubp.Sequential(gpubp.Dense(1))
    with pytest.raises(InputError, match=said):
        gpubp.Trainer(network, "squared_error").fit(X, Y, validation_data=given)


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_held_out_of_those_that_weigh(seed: int) -> None:
    """The loss of rows that weigh nothing would be 0, and the best of all."""
    rows = np.random.default_rng(3).normal(size=(20, 3))
    for weighing, held_out in ((3, 1), (10, 1), (16, 2), (20, 2)):
        weights = np.r_[np.zeros(20 - weighing), np.full(weighing, 2.0)]
        trainer = gpubp.Trainer(
            gpubp.Sequential(gpubp.Dense(1)), "squared_error", SGD(lr=1e-30), backend="numpy",
            precision="fp64", seed=seed,
        )  # fmt: skip
        fit = {"sample_weight": weights, "validation_fraction": 0.1}
        trainer.fit(rows, rows[:, 0], 1, 5, **fit)
        losses = (trainer.predict(rows) - rows[:, 0]) ** 2  # twice the half
        counted = np.flatnonzero(weights)
        found = trainer.history[-1]["val_loss"]
        # It is the mean over some rows of those that count, and over no other number of them.
        sums = [losses[list(chosen)].mean() for chosen in combinations(counted, held_out)]
        assert np.isclose(sums, found, rtol=1e-9).any()
        assert trainer._run is not None
        assert trainer._run.rows == 20 - held_out


def test_one_row_that_weighs_can_not_be_parted() -> None:
    trainer = gpubp.Trainer(gpubp.Sequential(gpubp.Dense(1)), "squared_error")
    with pytest.raises(InputError, match=r"0.5 of 1 rows that weigh more than 0 is 1; both parts"):
        trainer.fit(X, Y, sample_weight=np.array([0, 1, 0, 0]), validation_fraction=0.5)
