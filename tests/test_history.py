"""History: columns, CSV that keeps every digit, and pictures of whatever was recorded."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from gpubp.errors import InputError, SaveError
from gpubp.history import History, larger_is_better

wholes = st.integers(-(2**63), 2**63 - 1)
records = st.lists(
    st.fixed_dictionaries(
        {"epoch": st.integers(1, 1000), "loss": st.floats(allow_nan=False)},
        optional={"val_loss": st.floats(allow_nan=False), "a,\n\"b": wholes},
    ),
    max_size=5,
)  # fmt: skip


def made(epochs: int, **curves: Any) -> History:
    """Return a history whose columns are functions of the epoch."""
    numbers = range(1, epochs + 1)
    return History.from_records(
        {"epoch": n, **{name: curve(n) for name, curve in curves.items()}} for n in numbers
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    """Collect the axes of every picture that is drawn."""
    found: list[Axes] = []
    save = Figure.savefig

    def collect(self: Figure, *args: Any, **kwargs: Any) -> None:
        found.extend(self.axes)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", collect)
    return found


@given(records)
def test_records_round_trip_through_json(rows: list[dict[str, float]]) -> None:
    history = History.from_records(rows)
    assert history.records == rows
    assert History.from_records(json.loads(json.dumps(history.records))) == history
    assert len(history) == len(rows)
    assert list(history) == rows


def test_a_column_with_a_float_holds_floats() -> None:
    history = History.from_records([{"a": 1}, {}, {"a": 0.5}, {"a": 2}])
    assert repr(history.records) == "[{'a': 1.0}, {}, {'a': 0.5}, {'a': 2.0}]"


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_whole_numbers_have_an_end(number: int) -> None:
    history = History.from_records([{"a": 2**63 - 1}])
    with pytest.raises(InputError, match="whole numbers of int64, got 'a'"):
        history.append({"b": 1, "a": number})
    assert history.records == [{"a": 2**63 - 1}]


@given(records)
def test_csv_keeps_every_digit(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, float]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "history.csv"
    history = History.from_records(rows)
    history.to_csv(path)
    with open(path, newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [{k: float(v) for k, v in row.items() if v} for row in read] == [
        {k: float(v) for k, v in row.items()} for row in rows
    ]


def test_columns() -> None:
    history = History.from_records([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "val_loss": 3}])
    assert history.names == ["epoch", "loss", "val_loss"]
    np.testing.assert_array_equal(history.column("loss"), [2.0, math.nan])
    np.testing.assert_array_equal(history.column("epoch"), [1.0, 2.0])
    with pytest.raises(InputError, match="did you mean 'val_loss'"):
        history.column("val_los")


def test_what_it_hands_out_is_not_its_own() -> None:
    history = made(2, loss=float)
    for record in (history[0], history.records[0], next(iter(history))):
        record["loss"] = -1.0
    assert history.column("loss").tolist() == [1.0, 2.0]


def test_numpy_scalars_become_plain_numbers() -> None:
    history = History()
    history.append({"epoch": np.int64(1), "loss": np.float32(0.5)})
    assert [type(value) for value in history[-1].values()] == [int, float]
    assert "1 epochs: epoch, loss" in repr(history)


@pytest.mark.parametrize("record", [{"loss": "0.5"}, {1: 0.5}, {"loss": None}])
def test_other_things_than_numbers_are_refused(record: Any) -> None:
    with pytest.raises(InputError, match="numbers by name"):
        History().append(record)


@pytest.mark.parametrize(
    ("history", "panels"),
    [
        (made(1, loss=float), ["loss"]),
        (made(50, loss=lambda n: 1 / n, val_loss=lambda n: 2 / n), ["loss"]),
        (
            made(9, loss=float, lr=float, step=int, val_loss=float, val_accuracy=lambda n: n / 10),
            ["loss", "accuracy"],
        ),
        (made(4, val_rmse=float, loss=lambda n: math.inf if n > 2 else -n), ["loss", "rmse"]),
        (made(3, loss=lambda n: math.nan, val_loss=lambda n: math.nan), ["loss"]),
        (History.from_records([{"loss": 1.0}, {"loss": 0.5}]), ["loss"]),
    ],
)
def test_pictures(history: History, panels: list[str], drawn: list[Axes], tmp_path: Path) -> None:
    history.plot(tmp_path / "curves.png")
    height, width, _ = imread(tmp_path / "curves.png").shape
    assert (width, height) == (720 * len(panels), 504)
    assert [axes.get_ylabel() for axes in drawn] == panels
    assert {axes.get_xlabel() for axes in drawn} == {"epoch"}
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_training_and_validation_can_be_told_apart(drawn: list[Axes], tmp_path: Path) -> None:
    made(5, loss=float, val_loss=lambda n: abs(n - 3) + 1).plot(tmp_path / "a.png")
    (axes,) = drawn
    training, validation, best = axes.get_lines()
    assert training.get_color() != validation.get_color()
    assert training.get_linestyle() != validation.get_linestyle()
    assert axes.get_legend() is not None
    assert best.get_xydata().tolist() == [[3.0, 1.0]]
    assert best.get_label() == "best: 1 at epoch 3"


@pytest.mark.parametrize(
    ("name", "best"), [("val_loss", 3), ("val_rmse", 3), ("val_accuracy", 1), ("val_r2", 1)]
)
def test_the_best_epoch_is_the_lowest_or_highest_by_the_metrics_nature(
    name: str, best: int, drawn: list[Axes], tmp_path: Path
) -> None:
    values = [0.9, 0.5, 0.1, math.inf if best == 1 else math.nan]
    made(4, **{name: lambda n: values[n - 1]}).plot(tmp_path / "a.png")
    assert drawn[0].get_lines()[-1].get_xydata()[0, 0] == best
    assert larger_is_better(name) == (best == 1)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 0.009], "log"),
        ([1.0, 0.011], "linear"),
        ([1.0, 0.0], "linear"),
        ([1.0, -9.0], "linear"),
    ],
)
def test_the_axis_is_logarithmic_where_values_span_over_two_decades(
    values: list[float], scale: str, drawn: list[Axes], tmp_path: Path
) -> None:
    made(2, loss=lambda n: values[n - 1]).plot(tmp_path / "a.png")
    assert drawn[0].get_yscale() == scale


def test_an_empty_history(tmp_path: Path) -> None:
    History().to_csv(tmp_path / "a.csv")
    with pytest.raises(InputError, match="call fit first"):
        History().plot(tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    for save in (made(2, loss=float).to_csv, made(2, loss=float).plot):
        with pytest.raises(SaveError, match="make that folder first"):
            save(tmp_path / "missing" / "file")


def test_drawing_needs_no_pyplot_and_importing_no_matplotlib(tmp_path: Path) -> None:
    code = """
import sys
from gpubp.history import History
assert "matplotlib" not in sys.modules
History.from_records([{"loss": 1.0}]).plot(sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], check=True, timeout=60)
