"""The history in a model file: columns as tensors, files of format 1, and headers with an end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubp import Dense, Sequential, Trainer, checkpoint, state
from gpubp.callbacks import EarlyStopping
from gpubp.errors import CheckpointError, InputError, SaveError
from gpubp.history import History

FORMAT_1 = Path(__file__).with_name("format-1.safetensors")
X, y = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), np.arange(40) % 3

numbers = st.one_of(st.integers(-(2**53), 2**53), st.floats())
records = st.lists(st.dictionaries(st.text(max_size=3), numbers, max_size=4), max_size=6)


def trained(epochs: int = 2, **settings: Any) -> Trainer:
    trainer = Trainer(Sequential(Dense(3)), backend="numpy", device="cpu", threads=1)
    trainer.fit(X, y, epochs, **settings)
    return trainer


@given(records)
def test_columns_and_back(rows: list[dict[str, float]]) -> None:
    history = History.from_records(rows)
    again = History.from_columns(len(history), history.columns())
    assert again == history
    assert repr(again.records) == repr(history.records)  # NaN and the kinds of numbers, too
    for row, record in zip(rows, again, strict=True):
        assert row.keys() == record.keys()
        np.testing.assert_array_equal(list(row.values()), [record[name] for name in row])


def test_a_file_of_format_1_is_read_and_gone_on_with(tmp_path: Path) -> None:
    """It was written before its third epoch's record, of a run of four, had been followed."""
    trainer = Trainer.load(FORMAT_1)
    assert trainer.extra == {"note": "as format 1 had it"}
    assert trainer.history.column("step").tolist() == [3, 5, 7]
    assert trainer.history[0]["loss"] == 1.0958551988005638
    assert "val_loss" not in trainer.history[0]
    assert trainer.history[2]["val_loss"] == 1.1057041883468628
    trainer.save(tmp_path / "m")
    again = Trainer.load(tmp_path / "m")
    assert again.history == trainer.history
    run = {"validation_fraction": 0.25, "callbacks": [EarlyStopping(patience=9)], "resume": True}
    for of in (trainer, again):
        of.fit(X, y, 4, 16, **run)
    np.testing.assert_array_equal(again.parameters(), trainer.parameters())
    whole = Trainer(
        trainer.network, schedule="cosine", backend="numpy", device="cpu", threads=1
    )  # what it was made by
    whole.fit(X, y, 1, 16)
    whole.fit(X, y, 4, 16, **run | {"resume": False})
    losses = [of.history.column("val_loss") for of in (trainer, whole)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert len(trainer.history) == 5


def test_what_stays_of_a_history_through_a_file(tmp_path: Path) -> None:
    trainer = trained(3)
    for extra in ({"a.b": 1}, {"": 0.5, "a.b": 2.5}, {"whole": -(2**63), "nan": float("nan")}):
        trainer.history.append(extra)
    trainer.epoch = len(trainer.history)
    trainer._run = None
    trainer._engine.rewind()
    trainer.save(tmp_path / "m")
    loaded = Trainer.load(tmp_path / "m").history
    assert loaded == trainer.history
    assert repr(loaded.records) == repr(trainer.history.records)


def test_records_of_the_users_own_are_read_again(tmp_path: Path) -> None:
    trainer = trained(1)
    for number in range(5):
        trainer.history.append({"mine": number})
    trainer.save(tmp_path / "m")
    assert Trainer.load(tmp_path / "m").history == trainer.history


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: setattr(t, "epoch", 7), "counters disagree: epoch 7"),
        (lambda t: setattr(t, "epoch", -1), "epoch must be"),
        (lambda t: setattr(t, "extra", [1]), r"extra is \[1\]"),
        (lambda t: setattr(t, "seed", 1.5), "seed is 1.5"),
    ],
)
def test_what_could_not_be_read_is_not_written(spoil: Any, said: str, tmp_path: Path) -> None:
    trainer = trained(1)
    trainer.save(tmp_path / "m")
    good = (tmp_path / "m").read_bytes()
    spoil(trainer)
    with pytest.raises(InputError, match=f"this trainer can't be kept in a file: .*{said}"):
        trainer.save(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == good


def test_the_header_does_not_grow_with_the_epochs(tmp_path: Path) -> None:
    """Of format 1 it could not be written after some 675,000 epochs."""
    trainer, sizes = trained(), []
    for count in (10, 700_000):
        values = np.arange(count)
        column = {"epoch": (values, None), "loss": (values / 3, None)}
        trainer.history = History.from_columns(count, column)
        trainer.epoch, trainer._run = count, None
        trainer.save(tmp_path / "m")
        with open(tmp_path / "m", "rb") as file:
            sizes.append(int.from_bytes(file.read(8), "little"))
        assert Trainer.load(tmp_path / "m").history == trainer.history
    assert sizes[1] <= sizes[0] + 200


def test_a_header_that_could_not_be_read_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trained()
    path = tmp_path / "m"
    trainer.save(path)
    good = path.read_bytes()
    header = int.from_bytes(good[:8], "little")
    monkeypatch.setattr(checkpoint, "_HEADER", header + 1000)
    with pytest.raises(SaveError, match=r"takes .* of which .* keep less in 'extra'"):
        trainer.save(path, extra={"notes": "x" * 2000})
    assert path.read_bytes() == good
    trainer.save(path, extra={"notes": "x"})


def test_a_header_beyond_what_safetensors_reads(tmp_path: Path) -> None:
    """Its late versions refuse to write one, its early ones do."""
    trainer = trained()
    trainer.save(tmp_path / "m")
    good = (tmp_path / "m").read_bytes()
    with pytest.raises(SaveError, match=r"takes 100,00.* of which 100,000,000 could"):
        trainer.save(tmp_path / "m", extra={"notes": "x" * 100_000_000})
    assert (tmp_path / "m").read_bytes() == good


def of_format_1(records: list[dict[str, float]], path: Path) -> None:
    """Write a model with that history in its document, and an epoch that allows it."""
    trainer = trained()
    trainer._run = None
    tensors, document = state.collect(trainer)
    others = {name: tensor for name, tensor in tensors.items() if not name.startswith("history.")}
    checkpoint.save(path, others, document | {"epoch": 2**53, "history": records})


@pytest.mark.parametrize(
    "records",
    [
        [{f"a{n}": 1} for n in range(30_000)],
        [{f"a{n}": 1 for n in range(30_000)}, *[{}] * 30_000],
    ],
    ids=["other names in each", "many names in one"],
)
def test_a_table_of_nearly_nothing_takes_no_memory(records: Any, tmp_path: Path) -> None:
    """As columns it would be 8 GB."""
    of_format_1(records, tmp_path / "m")
    with pytest.raises(CheckpointError, match="records of the history are nearly empty"):
        Trainer.load(tmp_path / "m")


def test_a_small_history_may_be_nearly_empty(tmp_path: Path) -> None:
    records = [{f"a{n}": n} for n in range(1000)]
    of_format_1(records, tmp_path / "m")
    assert Trainer.load(tmp_path / "m").history.records == records


def test_records_without_a_number_are_not_kept(tmp_path: Path) -> None:
    trainer = trained()
    trainer.history = History.from_records([{}, {}])
    trainer.save(tmp_path / "m")
    assert len(Trainer.load(tmp_path / "m").history) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda t, d: t.update({"history.0": np.arange(3)}),
        lambda t, d: t.update({"history.0": np.ones(2, np.float32)}),
        lambda t, d: t.update({"history.0": np.ones((2, 1))}),
        lambda t, d: t.pop("history.1"),
        lambda t, d: t.update({"history.99": np.ones(2)}),
        lambda t, d: t.update({"history.0.there": np.ones(3, bool)}),
        lambda t, d: t.update({"history.0.there": np.ones(2)}),
        lambda t, d: t.update({"history.0.more": np.ones(2)}),
        lambda t, d: d["history"].update(records=1),
        lambda t, d: d["history"].update(records=10**15),
        lambda t, d: d["history"].update(records=2.0),
        lambda t, d: d["history"].update(columns=["a"] * 6),
        lambda t, d: d["history"].update(columns=[]),
        lambda t, d: d["history"].update(columns={"a": 1}),
        lambda t, d: d["history"].update(columns=[[]] * 6),
        lambda t, d: d["history"].pop("records"),
        lambda t, d: (
            [t.pop(name) for name in [*t] if name.startswith("history.")],
            d.update(run=None, epoch=2**53, history={"records": 2**53, "columns": []}),
        ),
        lambda t, d: d.update(history=[]),
        lambda t, d: d.update(history=[{"loss": "a"}]),
        lambda t, d: d.update(history=None),
    ],
)
def test_columns_that_are_none_are_refused(change: Any, tmp_path: Path) -> None:
    path = tmp_path / "m"
    trained().save(path)
    tensors, document = checkpoint.load(path)
    change(tensors, document)
    checkpoint.save(path, tensors, document)
    with pytest.raises(CheckpointError, match="m does not describe a network"):
        Trainer.load(path)
