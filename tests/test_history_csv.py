"""The file of the history: a line an epoch, and whole again whenever it could not agree."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpubp import files
from gpubp.callbacks import HistoryCSV, Run
from gpubp.cli.units import Table, Units
from gpubp.errors import SaveError
from gpubp.history import History, Record

RUN = Run(0, 100, 1, 1, 1)


class Writer:
    """A run that keeps its history in a file; counts how often that is written whole."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch, callback: Any = None) -> None:
        self.path, self.callback = path, callback or HistoryCSV(path)
        self.trainer: Any = SimpleNamespace(history=History())
        self.whole = 0
        write = files.write

        def counted(target: Any, data: bytes) -> None:
            self.whole += 1
            write(target, data)

        patch.setattr(files, "write", counted)
        self.callback.on_fit_start(self.trainer, RUN)

    def epoch(self, record: Record) -> None:
        self.trainer.history.append(record)
        self.callback.on_epoch_end(self.trainer, record)

    def agrees(self) -> bool:
        """Whether the file is what the history itself would write."""
        expected, whole = self.path.with_name("expected"), self.whole
        self.trainer.history.to_csv(expected)
        self.whole = whole
        return self.path.read_bytes() == expected.read_bytes()


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writer:
    return Writer(tmp_path / "history.csv", monkeypatch)


def test_every_epoch_adds_its_line(writer: Writer) -> None:
    """The file is written whole after the first one and at the end, and else never."""
    for number, loss in enumerate([0.1 + 0.2, math.nan, -math.inf, 1e300], 1):
        writer.epoch({"epoch": number, "loss": loss})
        assert writer.agrees()
    assert writer.whole == 1
    writer.callback.on_fit_end(writer.trainer)
    assert writer.agrees()
    assert writer.whole == 2


def test_a_name_that_is_new_and_one_that_is_missing(writer: Writer) -> None:
    """The header gets the name; what a record has not stays empty, without a new file."""
    writer.epoch({"epoch": 1, "loss": 1.0})
    writer.epoch({"epoch": 2, "loss": 0.5, 'val,"loss"': 2.0})
    assert writer.agrees()
    writer.epoch({"epoch": 3, 'val,"loss"': 1.0})
    writer.epoch({"epoch": 4, "loss": 1.0})
    assert writer.agrees()
    assert writer.whole == 2


CUT = "epoch,loss\n1,1.0\n2,0."  # as a power cut leaves it
OTHER = "epoch,loss\n1,9.0\n2,9.0\n3,9.0\n4,9.0\n"  # further than the checkpoint


@pytest.mark.parametrize("there", [CUT, OTHER, "", None])
def test_a_run_that_is_taken_up_begins_by_agreeing(
    there: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there is not None:
        (tmp_path / "history.csv").write_text(there)
    writer = Writer(tmp_path / "history.csv", monkeypatch)
    writer.trainer.history = History.from_records([{"epoch": 1, "loss": 1.0}])
    for number in (2, 3):
        writer.epoch({"epoch": number, "loss": 1 / number})
        assert writer.agrees()
    assert writer.whole == 1


def test_the_same_callback_in_another_run(writer: Writer) -> None:
    writer.epoch({"epoch": 1, "loss": 1.0})
    writer.path.write_text("epoch,loss\n1,7.0\n")  # as long as it was
    writer.callback.on_fit_start(writer.trainer, RUN)
    writer.epoch({"epoch": 2, "loss": 1.0})
    assert writer.agrees()


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.path.unlink(),
        lambda w: w.path.write_text("mine"),
        lambda w: w.path.write_text(w.path.read_text()[:-2]),
        lambda w: w.path.rename(w.path.with_name("moved")),
        lambda w: w.trainer.history.append({"epoch": 1, "loss": 3.0}),
        lambda w: setattr(w.trainer, "history", History()),
    ],
    ids=["removed", "replaced", "cut", "moved", "two records", "no records"],
)
def test_what_somebody_else_has_changed_is_written_anew(change: Any, writer: Writer) -> None:
    for number in (1, 2):
        writer.epoch({"epoch": number, "loss": 1.0})
    change(writer)
    writer.epoch({"epoch": 3, "loss": 1.0})
    assert writer.agrees()
    assert writer.whole == 2
    writer.epoch({"epoch": 4, "loss": 1.0})
    assert writer.agrees()
    assert writer.whole == 2


def test_a_line_that_can_not_be_written_ends_the_run(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> bool:
        raise SaveError("no room")

    writer.epoch({"epoch": 1, "loss": 1.0})
    monkeypatch.setattr(files, "append", full)
    with pytest.raises(SaveError, match="no room"):
        writer.epoch({"epoch": 2, "loss": 1.0})


def test_permissions_and_links_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "history.csv"
    real.touch(mode=0o600)
    real.chmod(0o600)
    link.symlink_to(real.name)
    writer = Writer(link, monkeypatch)
    for number in (1, 2):
        writer.epoch({"epoch": number, "loss": 1.0})
        assert writer.agrees()
    assert link.is_symlink()
    assert stat.S_IMODE(os.lstat(real).st_mode) == 0o600


def test_the_command_adds_lines_in_the_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.csv"
    writer = Writer(path, monkeypatch, Table(path, Units(10.0, 2)))
    for number in (1, 2):
        writer.epoch({"epoch": number, "loss": 0.5, "val_rmse": 2.0})
    assert path.read_text() == "epoch,loss,val_rmse\n1,50.0,20.0\n2,50.0,20.0\n"
    assert writer.whole == 1
