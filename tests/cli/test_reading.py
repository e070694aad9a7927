"""What the commands do with files as people have them: a line for each row, and what is said."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gpubp.cli.main import main

from .conftest import SMALL, read

RUN = ("--out", "run")


def write(name, text):
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.fixture
def line(gpubp):
    """A model of y = 2 x, of one column."""
    values = np.random.default_rng(1).normal(size=60)
    write("train.csv", "x,y\n" + "".join(f"{x:.4f},{2 * x:.4f}\n" for x in values))
    assert gpubp("train", "train.csv", *SMALL, *RUN).code == 0
    return "run"


class TestPredict:
    @pytest.mark.parametrize("gap", ["", '""', "NA", " "])
    def test_a_line_for_each_line_of_one_column(self, gpubp, line, gap):
        cells = [gap if index in (3, 7) else str(index) for index in range(10)]
        result = gpubp("predict", line, write("new.csv", "\n".join(["x", *cells]) + "\n"))
        assert result.code == 0, result.err
        answers = [row["y"] for row in read(Path("predictions.csv"))]
        whole = write("whole.csv", "x\n" + "".join(f"{index}\n" for index in range(10)))
        assert gpubp("predict", line, whole, "--out", "whole.out").code == 0
        right = [row["y"] for row in read(Path("whole.out"))]
        assert len(answers) == 10
        assert [i for i in range(10) if answers[i] != right[i]] == [3, 7]
        assert answers[3] == answers[7]

    def test_blank_lines_of_more_columns_are_counted_last(self, gpubp, line):
        result = gpubp("predict", line, write("new.csv", "x,z\n1,2\n\n3,4\n"))
        assert result.out.splitlines()[-1] == (
            "predictions: predictions.csv, 2 rows; 1 blank line of the data has none"
        )
        assert "left out 1 blank line, the first at line 3" in result.out

    @pytest.mark.parametrize(
        "text",
        [
            b"x\r1.5\r-2\r",
            gzip.compress(b"x\n1.5\n-2\n"),
            "x\n1.5\n-2\n".encode("utf-16"),
            "x;z\n1,5;é\n-2,0;e\n".encode("cp1252"),
        ],
        ids=["carriage returns", "gzip", "UTF-16", "German"],
    )
    def test_files_of_other_systems(self, gpubp, line, text):
        assert (
            gpubp("predict", line, write("a.csv", "x\n1.5\n-2\n"), "--out", "right.csv").code == 0
        )
        result = gpubp("predict", line, write("new.csv", text))
        assert result.code == 0, result.err
        assert Path("predictions.csv").read_text() == Path("right.csv").read_text()
        assert ("read as" in result.out) == (b"\xff\xfe" in text or b"\xe9" in text)

    def test_the_standard_input(self, line):
        result = CliRunner().invoke(
            main, ["predict", line, "-", "--out", "-"], input="x\n1.5\n-2\n"
        )
        assert result.exit_code == 0
        assert len(result.stdout.splitlines()) == 3

    def test_an_encoding_and_decimals_that_are_named(self, gpubp, line):
        data = write("new.csv", "x;größe\n1.5;1\n".encode("cp437"))
        assert gpubp("predict", line, data, "--encoding", "cp437").code == 0
        result = gpubp("predict", line, data, "--encoding", "klingon")
        assert result.code == 2
        assert "there is no encoding 'klingon'" in result.err
        result = gpubp("predict", line, data, "--decimal", "comma", "--encoding", "cp437")
        assert result.code == 2
        assert "'x' has '1.5' at line 2" in result.err


class TestTargets:
    @pytest.fixture
    def gaps(self):
        rows = [(i / 7, ["a", "NA", "b", "", "None"][i % 5]) for i in range(100)]
        return write("gaps.csv", "x,y\n" + "".join(f"{x},{y}\n" for x, y in rows))

    def test_rows_without_one_are_counted_last(self, gpubp, gaps):
        result = gpubp("train", gaps, *SMALL)
        assert "classification into 3 classes: None, a, b" in result.out
        assert result.out.splitlines()[-1].endswith("; left out 40 rows without a value in 'y'")
        result = gpubp("train", gaps, *SMALL, "--test-fraction", "0", "--overwrite")
        assert result.out.splitlines()[-1].endswith("; left out 40 rows without a value in 'y'")
        result = gpubp("evaluate", "gpubp-run", gaps)
        assert result.out.splitlines()[-1].endswith("; left out 40 rows without a value in 'y'")

    def test_what_is_missing_can_be_said_and_stays_with_the_model(self, gpubp, gaps):
        result = gpubp("train", gaps, *SMALL, "--missing", "")
        assert "classification into 4 classes: NA, None, a, b" in result.out
        assert result.out.splitlines()[-1].endswith("; left out 20 rows without a value in 'y'")
        result = gpubp("evaluate", "gpubp-run", gaps)
        assert result.out.splitlines()[-1].endswith("; left out 20 rows without a value in 'y'")
        result = gpubp("train", "--resume", "--epochs", "5")
        assert result.code == 0, result.err
        result = gpubp("train", "--resume", "--missing", "NA")
        assert result.code == 2
        assert "--missing is NA, but" in result.err

    def test_help_says_the_rule(self, gpubp):
        said = " ".join(gpubp("train", "--help").out.split())
        assert "Texts that stand for a missing value" in said
        assert "None is one among numbers, and a class or category among texts" in said


@pytest.mark.parametrize(
    "names",
    [
        ["02134", "2134"],
        ["1582218195625938945", "1582218195625938946", "7"],
        ["007", "008"],
        ["1e3", "2e3"],
        ["1.0", "2.0"],
        ["None", "Some"],
    ],
)
def test_classes_are_named_as_they_are_written(gpubp, names):
    rows = [(k + i / 100, name) for i in range(30) for k, name in enumerate(names)]
    data = write("d.csv", "x,label\n" + "".join(f"{x},{name}\n" for x, name in rows))
    assert gpubp("train", data, *SMALL).code == 0
    assert gpubp("predict", "gpubp-run", data).code == 0
    answers = read(Path("predictions.csv"))
    assert set(answers[0]) == {"label", *(f"p({name})" for name in names)}
    assert {row["label"] for row in answers} <= set(names)
    assert gpubp("evaluate", "gpubp-run", data).code == 0


def test_an_index_is_not_learned_from(gpubp):
    rows = [f'"{i}",{i % 7},{"ab"[i > 50]}' for i in range(1, 101)]
    data = write("d.csv", "\n".join([',"x","y"', *rows]) + "\n")
    result = gpubp("train", data, *SMALL)
    assert "left out, it numbers the rows: column 1" in result.out


@pytest.mark.parametrize("size", [1e300, 1e160, 1.0, 1e-160, 1e-300])
def test_numbers_of_any_size(gpubp, size):
    values = np.random.default_rng(2).normal(size=(80, 2))
    rows = "".join(f"{a * size!r},{(a + b / 9) * size!r}\n" for a, b in values.tolist())
    result = gpubp("train", write("d.csv", f"x,y\n{rows}"), *SMALL)
    assert result.code == 0, result.err
    last = result.out.splitlines()[-1]
    assert 0.1 * size < float(last.split("rmse ")[1].split(",")[0]) < 10 * size
    losses = [float(row["loss"]) for row in read(Path("gpubp-run/history.csv"))]
    assert all(0 < loss < np.inf for loss in losses)
    assert ("losses, which are of the standardised target" in result.out) == (size != 1)
    assert gpubp("predict", "gpubp-run", "d.csv").code == 0
    answers = [abs(float(row["y"])) for row in read(Path("predictions.csv"))]
    assert 0.01 * size < np.median(answers) < 10 * size
