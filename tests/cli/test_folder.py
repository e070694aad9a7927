"""The folder of a run: who may write to it, and what is never replaced unasked."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpubp.cli.units import Line

from .conftest import SMALL

RUN = Path("gpubp-run")
MODEL = RUN / "model.safetensors"


@pytest.fixture
def iris(gpubp):
    """A run that has ended; the bytes of its model."""
    assert gpubp("train", "iris", *SMALL).code == 0
    return MODEL.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["wine", *SMALL], "holds the model of another run (DATA iris there, wine here)"),
        (
            ["iris", *SMALL, "--lr", "0.02", "--hidden", "8,4"],
            "another run (--hidden 8 there, 8,4 here; --lr 0.003 there, 0.02 here)",
        ),
    ],
)
def test_another_run_is_refused_unless_it_may_overwrite(gpubp, iris, arguments, said):
    result = gpubp("train", *arguments, "--out", "gpubp-run")
    assert result.code == 2
    assert said in result.err
    assert "name another folder with --out, or train anew with --overwrite" in result.err
    assert MODEL.read_bytes() == iris
    result = gpubp("train", *arguments, "--overwrite", "--out", "gpubp-run")
    assert result.code == 0, result.err
    assert "the earlier model in gpubp-run is replaced, as asked" in result.out
    assert MODEL.read_bytes() != iris


FILES = [MODEL, RUN / "history.csv", RUN / "curves.png"]


@pytest.mark.parametrize("how", [["--resume", "--epochs", "6"], ["iris", *SMALL, "--overwrite"]])
def test_permissions_and_links_stay(gpubp, iris, how):
    """Of each file of a run, whether the run goes on or is replaced."""
    store = Path("store")
    store.mkdir()
    for path in FILES:
        path.chmod(0o600)
        path.rename(store / path.name)
        path.symlink_to(Path("..", "store", path.name))
    before = [path.stat().st_mtime_ns for path in FILES]
    result = gpubp("train", *how)
    assert result.code == 0, result.err
    assert all(path.is_symlink() for path in FILES)
    assert [(store / path.name).stat().st_mode & 0o777 for path in FILES] == [0o600] * 3
    assert not {path.stat().st_mtime_ns for path in FILES} & set(before), "all were replaced"


def test_new_files_follow_the_umask(gpubp):
    before = os.umask(0o027)
    try:
        assert gpubp("train", "iris", *SMALL).code == 0
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in FILES] == [0o640] * 3


def test_what_cannot_be_put_aside_is_said(gpubp, iris, monkeypatch):
    """As where the folder of the run is a link to another file system."""

    def far(*_):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Path, "rename", far)
    result = gpubp("train", "wine", *SMALL)
    assert result.code == 1
    assert "history.csv to gpubp-run.1: Invalid cross-device link; say --overwrite" in result.err
    assert MODEL.read_bytes() == iris


def test_in_the_usual_folder_the_earlier_run_is_put_aside(gpubp, iris):
    for number in (1, 2):
        result = gpubp("train", ["wine", "iris"][number - 1], *SMALL)
        assert result.code == 0, result.err
        assert f"the earlier run is in gpubp-run.{number} now" in result.out
    assert Path("gpubp-run.1/model.safetensors").read_bytes() == iris
    assert gpubp("evaluate", "gpubp-run.2", "wine").code == 0
    assert sorted(path.name for path in Path("gpubp-run.1").iterdir()) == [
        "curves.png", "history.csv", "model.safetensors"
    ]  # fmt: skip


@pytest.mark.parametrize("out", [[], ["--out", "gpubp-run"]])
def test_the_same_run_that_has_ended_is_shown(gpubp, iris, out):
    result = gpubp("train", "iris", *SMALL, *out)
    assert result.code == 0, result.err
    assert "holds this very run, which ended after epoch 3: --resume --epochs 6" in result.out
    assert result.out.splitlines()[-1].startswith("test: accuracy")
    assert "epoch" not in result.err
    assert MODEL.read_bytes() == iris


def test_other_data_of_the_same_name_are_another_run(gpubp, passengers):
    assert gpubp("train", passengers, *SMALL, "--out", "run").code == 0
    passengers.write_text(passengers.read_text().replace(",female,", ",male,", 20))
    result = gpubp("train", passengers, *SMALL, "--out", "run")
    assert result.code == 2
    assert "passengers.csv has other content by now" in result.err


def test_the_same_run_named_from_another_folder(gpubp, passengers, monkeypatch, tmp_path):
    assert gpubp("train", "passengers.csv", *SMALL).code == 0
    (tmp_path / "other").mkdir()
    monkeypatch.chdir("other")
    result = gpubp("train", "../passengers.csv", *SMALL, "--out", "../gpubp-run")
    assert result.code == 0
    assert "holds this very run, which ended" in result.out


def test_the_same_run_that_was_stopped(gpubp, monkeypatch):
    real = Line.on_epoch_end

    def on_epoch_end(line, trainer, record):
        if record["epoch"] == 3:
            signal.raise_signal(signal.SIGINT)
        return real(line, trainer, record)

    with monkeypatch.context() as patch:
        patch.setattr(Line, "on_epoch_end", on_epoch_end)
        assert gpubp("train", "iris", *SMALL, "--out", "run").code == 1
    result = gpubp("train", "iris", *SMALL, "--out", "run")
    assert result.code == 2
    assert "run holds this very run, stopped after epoch 3; 'gpubp train --resume" in result.err
    assert gpubp("train", "--resume", "--out", "run").code == 0


@pytest.mark.parametrize("content", [b"", b"notes of mine", b"\x00" * 100])
def test_a_file_that_is_no_model_is_kept(gpubp, content):
    RUN.mkdir()
    MODEL.write_bytes(content)
    result = gpubp("train", "iris", *SMALL, "--out", "gpubp-run")
    assert result.code == 2
    assert "holds a model that is not of 'gpubp train'" in result.err
    assert MODEL.read_bytes() == content
    assert gpubp("train", "iris", *SMALL, "--overwrite").code == 0


def test_resume_and_overwrite(gpubp, iris):
    result = gpubp("train", "--resume", "--overwrite")
    assert result.code == 2
    assert "--resume goes on with a run and --overwrite begins anew" in result.err
    assert MODEL.read_bytes() == iris


class TestLock:
    @pytest.fixture
    def other(self):
        """Another process that holds the lock of the run's folder."""
        RUN.mkdir()
        code = (
            "from pathlib import Path\nfrom gpubp.cli.folder import locked\n"
            "with locked(Path('gpubp-run')):\n    print('held', flush=True)\n    input()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "held\n"
            yield process
            process.stdin.close()

    @pytest.mark.parametrize("options", [("iris", *SMALL), ("--overwrite",)])
    def test_a_second_process_is_told_of_the_first(self, gpubp, other, options):
        result = gpubp("train", *options)
        assert result.code == 2
        assert f"process {other.pid} trains in gpubp-run just now; wait for it" in result.err
        assert not MODEL.exists()

    def test_a_lock_that_a_dead_process_left_is_no_hindrance(self, gpubp, other):
        other.kill()
        other.wait()
        assert (RUN / ".lock").exists()
        assert gpubp("train", "iris", *SMALL).code == 0
        assert not (RUN / ".lock").exists()

    def test_it_goes_however_the_run_ends(self, gpubp):
        assert gpubp("train", "none.csv").code == 2
        assert list(RUN.iterdir()) == []

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("x", path)])
    def test_something_else_in_its_place(self, gpubp, make):
        RUN.mkdir()
        make(RUN / ".lock")
        result = gpubp("train", "iris", *SMALL)
        assert result.code == 1
        assert "cannot write to the folder 'gpubp-run'" in result.err

    def test_a_file_system_without_locks_is_said(self, gpubp, monkeypatch):
        def flock(handle, how):
            if how & fcntl.LOCK_NB:
                raise OSError(38, "Function not implemented")

        monkeypatch.setattr(fcntl, "flock", flock)
        result = gpubp("train", "iris", *SMALL)
        assert result.code == 0
        assert "gpubp-run can't be locked: run one process in it" in result.err
