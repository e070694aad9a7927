"""Closed and full streams, a folder that is gone, things that are no files, numbers of no use."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from .conftest import SMALL

GPUBP = f"{sys.executable} -m gpubp"
OPTIONS = " ".join(SMALL)
NUMBERS = ("validation-fraction", "test-fraction", "lr", "l2", "clip-norm", "dropout")
slow = pytest.mark.slow


def shell(line, **environment):
    """Run a line of the shell; return its exit code and what it wrote."""
    environment = {**os.environ, "GPUBP": GPUBP, **environment}
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=100, check=False,
        env=environment,
    )  # fmt: skip


@pytest.mark.parametrize("closed", ["2>&-", pytest.param("<&- >&- 2>&-", marks=slow)])
def test_closed_streams(closed):
    """And no file of the run takes their number, which would put messages into it."""
    done = shell(f"$GPUBP train iris {OPTIONS} {closed}")
    assert done.returncode == 0, done.stderr
    assert Path("gpubp-run/curves.png").read_bytes().startswith(b"\x89PNG")
    header, *records = Path("gpubp-run/history.csv").read_text().splitlines()
    assert header.startswith("epoch,")
    assert len(records) == 3


@pytest.mark.parametrize("command", ["devices", "--help", f"train iris {OPTIONS}"])
def test_a_full_disk_for_the_output(command):
    done = shell(f"$GPUBP {command} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "gpubp: its output can't be written: No space left on device"
    )


@pytest.mark.parametrize("command", [f"train iris {OPTIONS}", "predict m d.csv", "explain m"])
def test_a_working_directory_that_is_gone(command):
    done = shell(f"mkdir gone; cd gone; rmdir ../gone; $GPUBP {command}")
    assert done.returncode == 1
    assert done.stderr == (
        "gpubp: the working directory is gone; change to one that is there, such as: cd ~\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        "MPLBACKEND=nonsense $GPUBP",
        pytest.param("MPLBACKEND=module://none $GPUBP", marks=slow),
        pytest.param("env -u HOME MPLCONFIGDIR=m $GPUBP", marks=slow),
    ],
)
def test_a_broken_environment_costs_no_picture(line):
    done = shell(f"{line} train iris {OPTIONS}")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert Path("gpubp-run/curves.png").exists()


class TestNoFiles:
    @pytest.mark.parametrize("name", ["/dev/zero", "/dev/null"])
    @pytest.mark.parametrize("before", [["train"], ["predict", "gpubp-run"]])
    def test_a_device_as_data(self, gpubp, name, before):
        assert gpubp("train", "iris", *SMALL).code == 0
        result = gpubp(*before, name)
        assert result.code == 2
        assert f"{name} is a device" in result.err

    @pytest.mark.parametrize("command", [["explain"], ["evaluate"], ["predict"]])
    def test_a_pipe_as_a_model(self, gpubp, command):
        os.mkfifo("pipe")
        result = gpubp(*command, "pipe", *["iris"] * (command != ["explain"]))
        assert result.code == 2
        assert "'pipe' is not a file, so it is no model" in result.err

    @pytest.mark.parametrize("name", ["model.safetensors", "history.csv", "curves.png"])
    @pytest.mark.parametrize("temporary", [False, True])
    def test_a_pipe_in_the_way(self, gpubp, name, temporary):
        Path("run").mkdir()
        os.mkfifo(f"run/.{name}.tmp" if temporary else f"run/{name}")
        result = gpubp("train", "iris", *SMALL, "--out", "run", "--overwrite")
        assert result.code == 1
        assert f"cannot write {Path('run').resolve() / name}" in result.err

    def test_a_pipe_as_a_result(self, gpubp):
        os.mkfifo("pipe")
        result = gpubp("bench", "--show", "pipe")
        assert result.code == 2
        assert "pipe can't be read: it is not a file" in result.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--epochs", "99999999999999999999"], "is not in the range"),
        (["--batch-size", "99999999999999999999"], "is not in the range"),
        (["--threads", "999999999"], "is not in the range"),
        (["--shares", "999999999"], "is not in the range"),
        (["--seed", "99999999999999999999"], "is not in the range"),
        (["--out", ""], "the path is empty"),
        *(([f"--{name}", "nan"], "nan is not a finite number") for name in NUMBERS),
        (["--lr", "inf"], "inf is not a finite number"),
        (["--l2", "inf"], "inf is not a finite number"),
    ],
)  # fmt: skip
def test_numbers_of_no_use(gpubp, arguments, said):
    result = gpubp("train", "iris", *arguments)
    assert result.code == 2
    assert said in result.err
    assert not os.listdir()


def test_a_network_that_does_not_fit_into_memory(gpubp):
    result = gpubp("train", "iris", "--hidden", "1000000,1000000")
    assert result.code == 1
    assert "has 1,000,009,000,003 parameters and needs 28 TB of memory" in result.err
    assert len(result.errors) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--budget", "nan"], "nan is not a finite number"),
        (["--batch-size", "9" * 18], "is not a list of sizes"),
        (["--network", "9999999-99999999-2"], "takes 20,000 TB of memory, but the machine has"),
        (["--batch-size", "999999999"], "of memory, but the machine has"),
    ],
)
def test_a_benchmark_that_can_never_be(gpubp, arguments, said):
    result = gpubp("bench", *arguments, "--devices", "cpu")
    assert result.code in (1, 2)
    assert said in result.err


class TestArchives:
    @staticmethod
    def flags(path, local, central, value):
        """Set a field of two bytes in all headers of an archive."""
        data = bytearray(path.read_bytes())
        for mark, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
            at = data.find(mark)
            while at >= 0:
                data[at + offset] = value
                at = data.find(mark, at + 4)
        path.write_bytes(data)

    @pytest.mark.parametrize(
        ("local", "central", "value", "said"),
        [(6, 8, 1, "is encrypted"), (8, 10, 99, "compression method is not supported")],
    )
    def test_one_that_cannot_be_opened(self, gpubp, tmp_path, local, central, value, said):
        np.savez("d.npz", X=np.ones((4, 2)), y=np.arange(4))
        self.flags(tmp_path / "d.npz", local, central, value)
        result = gpubp("train", "d.npz")
        assert result.code == 2
        assert "d.npz can't be read as an .npz file: " in result.err
        assert said in result.err

    @pytest.mark.parametrize("name", ["readme.txt", "X.npy"])
    def test_a_member_that_is_no_array(self, gpubp, name):
        with zipfile.ZipFile("d.npz", "w") as archive:
            archive.writestr(name, "what these are")
        result = gpubp("train", "d.npz")
        assert result.code == 2
        assert f"{name.removesuffix('.npy')!r} in it is not an array; leave it out" in result.err

    def test_one_that_is_larger_than_memory(self, gpubp):
        with zipfile.ZipFile("d.npz", "w") as archive, archive.open("X.npy", "w") as member:
            header = {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
            np.lib.format.write_array_header_1_0(member, header)
        result = gpubp("train", "d.npz")
        assert result.code == 2
        assert "d.npz does not fit into memory: Unable to allocate" in result.err
