"""What can't be used is refused at the door: what was wrong, the value, and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpubp
from gpubp.callbacks import Checkpoint
from gpubp.errors import (
    CheckpointError,
    DeviceError,
    GpubpError,
    InputError,
    NonFiniteError,
    SaveError,
)

ROWS = 12
X = np.random.default_rng(0).standard_normal((ROWS, 3)).astype(np.float32)
Y = np.arange(ROWS) % 3


def _changed(array: np.ndarray, place: Any, value: Any) -> np.ndarray:
    copy = np.array(array)
    copy[place] = value
    return copy


def _fit(
    X: Any = X, y: Any = Y, loss: str = "softmax_cross_entropy", outputs: int = 3, **arguments: Any
) -> None:
    trainer = gpubp.Trainer(gpubp.Sequential(gpubp.Dense(outputs)), loss=loss, backend="numpy")
    trainer.fit(X, y, **{"epochs": 1, "batch_size": 4, **arguments})


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "X of one dimension": (lambda: _fit(X[:, 0]), r"X has shape \(12,\).*two dimensions"),
    "X of three dimensions": (lambda: _fit(X[None]), "two dimensions"),
    "X of objects": (lambda: _fit(X.astype(object)), "X has dtype object"),
    "X of complex numbers": (lambda: _fit(X.astype(complex)), "X has dtype complex128"),
    "X a list": (lambda: _fit(X.tolist()), r"X is a list, not an array; pass np.asarray\(X\)"),
    "no rows": (lambda: _fit(X[:0], Y[:0]), r"X has shape \(0, 3\): it needs a row"),
    "no columns": (lambda: _fit(X[:, :0]), r"X has shape \(12, 0\): it needs a column"),
    "NaN in X": (
        lambda: _fit(_changed(X, (7, 1), np.nan)),
        "X has nan at row 7, column 1",
    ),
    "infinity in X": (
        lambda: _fit(_changed(X, (2, 2), -np.inf)),
        "X has -inf at row 2, column 2",
    ),
    "NaN in y": (
        lambda: _fit(y=_changed(X[:, 0], 5, np.nan), loss="squared_error", outputs=1),
        "y has nan at row 5",
    ),
    "fewer targets than rows": (lambda: _fit(y=Y[:-1]), "y has 11 rows.*12"),
    "labels of floats": (lambda: _fit(y=Y + 0.5), "y has dtype float64.*integers"),
    "negative label": (lambda: _fit(y=_changed(Y, 4, -1)), "y has -1 at row 4"),
    "label out of range": (
        lambda: _fit(y=_changed(Y, 4, 3)),
        "y has 3 at row 4, but with 3 classes the ids go from 0 to 2",
    ),
    "a single class": (lambda: _fit(y=np.ones(ROWS, int)), "single class 1"),
    "a single class of two": (
        lambda: _fit(y=np.ones(ROWS), loss="sigmoid_cross_entropy", outputs=1),
        "y is 1 everywhere",
    ),
    "targets of another width": (
        lambda: _fit(y=X, loss="squared_error", outputs=2),
        "y has 3 columns, but the network's output has 2",
    ),
    "probability above 1": (
        lambda: _fit(y=np.full(ROWS, 1.5), loss="sigmoid_cross_entropy", outputs=1),
        "y has values from 1.5 to 1.5.*between 0 and 1",
    ),
    "negative count": (
        lambda: _fit(y=-(X[:, :1] ** 2), loss="poisson", outputs=1),
        "'poisson' lie between 0 and inf",
    ),
    "batch size 0": (lambda: _fit(batch_size=0), "batch_size must be a whole number.*got 0"),
    "batch size not whole": (lambda: _fit(batch_size=2.5), "batch_size must be .*got 2.5"),
    "batch size larger than the data": (
        lambda: _fit(batch_size=13),
        "batch_size is 13, but there are 12 rows.*at most 12",
    ),
    "no epochs": (lambda: _fit(epochs=0), "epochs must be a whole number.*got 0"),
    "negative weight": (
        lambda: _fit(sample_weight=_changed(np.ones(ROWS), 3, -2.0)),
        "sample_weight has -2.0 at row 3",
    ),
    "weights all 0": (lambda: _fit(sample_weight=np.zeros(ROWS)), "sample_weight is 0"),
    "validation fraction 1": (
        lambda: _fit(validation_fraction=1.0),
        "validation_fraction must be at least 0 and below 1, got 1.0",
    ),
    "validation fraction of no row": (
        lambda: _fit(validation_fraction=0.01),
        "0.01 of 12 rows is 0",
    ),
    "validation twice": (
        lambda: _fit(validation_fraction=0.5, validation_data=(X, Y)),
        "not both",
    ),
    "validation of other columns": (
        lambda: _fit(validation_data=(X[:, :2], Y)),
        "X has 2 columns, but the network takes 3",
    ),
    "nothing to resume": (lambda: _fit(resume=True), "no interrupted run to resume"),
    "unknown activation": (lambda: gpubp.Dense(3, "rleu"), "unknown activation 'rleu'.*'relu'"),
    "unknown initializer": (
        lambda: gpubp.Dense(3, initializer="he_norm"),
        "unknown initializer 'he_norm'.*'he_normal'",
    ),
    "unknown loss": (
        lambda: gpubp.Trainer(gpubp.Sequential(gpubp.Dense(1)), "squared_eror"),
        "unknown loss 'squared_eror'.*'squared_error'",
    ),
    "unknown optimizer": (
        lambda: gpubp.Trainer(gpubp.Sequential(gpubp.Dense(1)), optimizer="adma"),
        "unknown optimizer 'adma'.*'adam'",
    ),
    "unknown schedule": (
        lambda: gpubp.Trainer(gpubp.Sequential(gpubp.Dense(1)), schedule="cosin"),
        "unknown schedule 'cosin'.*'cosine'",
    ),
    "unknown backend": (
        lambda: gpubp.Trainer(gpubp.Sequential(gpubp.Dense(1)), backend="numbaa"),
        "unknown backend 'numbaa'.*'numba'",
    ),
    "unknown device": (
        lambda: gpubp.Trainer(gpubp.Sequential(gpubp.Dense(1)), device="gpu"),
        "unknown device 'gpu'",
    ),
    "unknown precision": (
        lambda: gpubp.Trainer(gpubp.Sequential(gpubp.Dense(1)), precision="fp23"),
        "unknown precision 'fp23'.*'fp32'",
    ),
    "negative seed": (
        lambda: gpubp.Trainer(gpubp.Sequential(gpubp.Dense(1)), seed=-1),
        "seed must be.*got -1",
    ),
    "no threads": (
        lambda: gpubp.Trainer(gpubp.Sequential(gpubp.Dense(1)), threads=0),
        "threads must be.*got 0",
    ),
    "no layers": (gpubp.Sequential, "at least one layer"),
    "a layer by name": (
        lambda: gpubp.Sequential("dense", 3),
        "layer 'dense' needs its option 'units'",
    ),
    "nothing to train": (lambda: gpubp.Sequential(gpubp.Dropout(0.1)), "can be trained"),
    "negative penalty": (
        lambda: gpubp.Trainer(gpubp.Sequential(gpubp.Dense(1)), l2=-1.0),
        "l2 must be.*got -1.0",
    ),
    "prediction before training": (
        lambda: gpubp.Trainer(gpubp.Sequential(gpubp.Dense(1))).predict(X),
        "no weights yet",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_with_value_and_remedy(case: str) -> None:
    call, message = CASES[case]
    with pytest.raises(InputError, match=message):
        call()


def test_a_refused_fit_changes_nothing() -> None:
    trainer = gpubp.Trainer(gpubp.Sequential(gpubp.Dense(3)), backend="numpy")
    trainer.fit(X, Y, batch_size=4)
    before, history = trainer.parameters(), trainer.history.records
    with pytest.raises(InputError):
        trainer.fit(_changed(X, (0, 0), np.nan), Y, batch_size=4)
    np.testing.assert_array_equal(trainer.parameters(), before)
    assert trainer.history.records == history


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_device_that_is_not_there(device: str) -> None:
    with pytest.raises(DeviceError, match=rf"'{device}' can't be had.*pip install"):
        gpubp.Trainer(gpubp.Sequential(gpubp.Dense(1)), device=device)


def _saved(path: Path) -> Path:
    trainer = gpubp.Trainer(gpubp.Sequential(gpubp.Dense(3)), backend="numpy")
    trainer.fit(X, Y, batch_size=4)
    trainer.save(path)
    return path


def test_model_file_cut_short_or_of_another_version(tmp_path: Path) -> None:
    path = _saved(tmp_path / "model.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        gpubp.Trainer.load(path)
    with pytest.raises(CheckpointError, match="nowhere"):
        gpubp.Trainer.load(tmp_path / "nowhere")


def test_disk_full_while_checkpointing_keeps_the_previous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    trainer = gpubp.Trainer(gpubp.Sequential(gpubp.Dense(3)), backend="numpy")
    real = os.fsync

    def fill_the_disk(trainer: gpubp.Trainer, record: dict[str, float]) -> None:
        if record["epoch"] == 2:
            monkeypatch.setattr(os, "fsync", _no_space)

    with pytest.raises(SaveError, match=r"model\.safetensors"):
        trainer.fit(X, Y, 5, batch_size=4, callbacks=[fill_the_disk, Checkpoint(path)])
    monkeypatch.setattr(os, "fsync", real)
    assert gpubp.Trainer.load(path).epoch == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def _no_space(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_loss_that_blows_up_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    optimizer = gpubp.optimizers.SGD(lr=1e30)
    network = gpubp.Sequential(gpubp.Dense(4, "relu"), gpubp.Dense(1))
    trainer = gpubp.Trainer(network, "squared_error", optimizer, backend="numpy")
    trainer.initialize(3)
    trainer.save(path)
    with pytest.raises(NonFiniteError, match=r"lower learning rate.*model\.safetensors"):
        trainer.fit(X, X[:, 0], 50, batch_size=4, callbacks=[Checkpoint(path)])
    assert np.isfinite(gpubp.Trainer.load(path).parameters()).all()


def test_every_refusal_is_one_of_gpubps_errors() -> None:
    for call, _ in CASES.values():
        with pytest.raises(GpubpError):
            call()
