"""Where predictions go: to a file that was not there, or to a stream."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import SMALL

PREDICT = f"{sys.executable} -m gpubp predict gpubp-run iris"


@pytest.fixture
def answers(gpubp):
    """The predictions of a model, as they are written to a file."""
    assert gpubp("train", "iris", *SMALL).code == 0
    assert gpubp("predict", "gpubp-run", "iris", "--out", "right.csv").code == 0
    text = Path("right.csv").read_text()
    assert len(text.splitlines()) == 151
    return text


@pytest.mark.parametrize("out", ["-", "/dev/stdout"])
def test_the_standard_output_has_the_predictions_and_nothing_else(gpubp, answers, out):
    result = gpubp("predict", "gpubp-run", "iris", "--out", out)
    assert result.code == 0, result.err
    assert result.out == answers
    assert result.errors[0].startswith("device: cpu")
    assert result.errors[-1] == f"predictions: {out}, 150 rows"
    assert sorted(os.listdir()) == ["gpubp-run", "right.csv"]


@pytest.mark.parametrize(
    "line",
    [
        f"{PREDICT} --out - | cat > out.csv",
        f"{PREDICT} --out /dev/stdout > out.csv",
        f"{PREDICT} --out /dev/fd/5 5> out.csv",
        f"mkfifo pipe; cat pipe > out.csv & {PREDICT} --out /dev/fd/5 5> pipe; wait",
    ],
)
def test_streams_of_a_shell(answers, line):
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert Path("out.csv").read_text() == answers


def test_a_file_that_is_there_is_not_replaced_unasked(gpubp, answers):
    Path("mine.csv").write_text("mine\n")
    result = gpubp("predict", "gpubp-run", "iris", "--out", "mine.csv")
    assert result.code == 2
    assert "mine.csv is there; name another file with --out, or say --overwrite" in result.err
    assert Path("mine.csv").read_text() == "mine\n"
    assert gpubp("predict", "gpubp-run", "iris", "--out", "mine.csv", "--overwrite").code == 0
    assert Path("mine.csv").read_text() == answers


def test_one_of_the_usual_name_is_put_aside(gpubp, answers):
    for number in ("", "1", "2"):
        Path("predictions.csv").write_text(f"mine {number}\n")
        result = gpubp("predict", "gpubp-run", "iris")
        assert result.code == 0, result.err
        assert "the earlier predictions.csv is predictions." in result.out
        assert Path("predictions.csv").read_text() == answers
    kept = [Path(f"predictions.{number}.csv").read_text() for number in (1, 2, 3)]
    assert kept == ["mine \n", "mine 1\n", "mine 2\n"]
    assert gpubp("predict", "gpubp-run", "iris", "--overwrite").code == 0
    assert not Path("predictions.4.csv").exists()


def test_one_that_is_a_link_stays_one_and_what_it_led_to_is_put_aside(gpubp, answers):
    Path("real.csv").write_text("mine\n")
    Path("predictions.csv").symlink_to("real.csv")
    assert gpubp("predict", "gpubp-run", "iris").code == 0
    assert os.readlink("predictions.csv") == "real.csv"
    assert Path("real.csv").read_text() == answers
    assert Path("predictions.1.csv").read_text() == "mine\n"


def test_permissions_stay(gpubp, answers):
    file = Path("predictions.csv")
    file.touch()
    file.chmod(0o600)
    for options in ((), ("--overwrite",)):
        assert gpubp("predict", "gpubp-run", "iris", *options).code == 0
        assert file.read_text() == answers
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_full_device(gpubp, answers):
    result = gpubp("predict", "gpubp-run", "iris", "--out", "/dev/full")
    assert result.code == 1
    assert "cannot write /dev/full: No space left on device" in result.err
