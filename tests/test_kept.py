"""What a run keeps: the file holds what the trainer ends with; how validation is weighted."""

from __future__ import annotations

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


def test_rows_held_out_that_all_weigh_nothing_are_refused() -> None:
    """Their loss would be 0, and the best of all."""
    rows = np.random.default_rng(3).normal(size=(20, 3))
    weights = np.r_[np.zeros(17), np.ones(3)]
    messages, losses = [], []
    for seed in range(40):
        trainer = gpubp.Trainer(gpubp.Sequential(gpubp.Dense(1)), "squared_error", seed=seed)
        try:
            trainer.fit(rows, rows[:, 0], 1, 5, sample_weight=weights, validation_fraction=0.1)
            losses.append(trainer.history[-1]["val_loss"])
        except InputError as error:
            messages.append(str(error))
    said = "the 2 rows held out for validation by validation_fraction=0.1 all have weight 0; use"
    assert messages
    assert all(message.startswith(said) for message in messages)
    assert min(losses) > 0
