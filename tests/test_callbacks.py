"""Callbacks: when they stop, what they restore, what they write, and what they remember."""

from __future__ import annotations

import contextlib
import io
import math
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubp.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    HistoryCSV,
    Progress,
    ProgressLine,
    Run,
    as_callback,
    as_callbacks,
)
from gpubp.errors import InputError, SaveError
from gpubp.history import History
from gpubp.liveline import fitted

losses = st.lists(st.sampled_from([0.1, 0.2, 0.5, 1.0, math.nan, math.inf]), max_size=25)


class Model:
    """What callbacks use of a trainer; its only parameter is the number of its epochs."""

    def __init__(self) -> None:
        self.epoch = 0
        self.vector = np.zeros(1)
        self.history = History()
        self.saved: list[tuple[str, int]] = []

    def parameters(self) -> np.ndarray:
        return self.vector.copy()

    def set_parameters(self, vector: np.ndarray) -> None:
        self.vector = vector.copy()

    def save(self, path: Path) -> None:
        self.saved.append((path.name, self.epoch))


def fit(
    model: Model, callback: Any, values: list[float], name: str = "val_loss", run: Run | None = None
) -> int:
    """Train as the trainer does, on records that are given; return the number of epochs."""
    callback = as_callback(callback)
    run = run or Run(model.epoch, len(values), 5, 10, 50)
    try:
        ended = callback.on_fit_start(model, run)
        while model.epoch < run.last_epoch and not ended:
            model.epoch += 1
            model.vector[:] = model.epoch
            callback.on_progress(model, Progress(model.epoch, 5, 5, 0.5))
            record = {
                "epoch": model.epoch, "step": 5 * model.epoch, "loss": 0.5, "lr": 0.1,
                "seconds": 2.0, "samples_per_second": 25.0,
                name: values[model.epoch - run.first_epoch - 1],
            }  # fmt: skip
            model.history.append(record)
            ended = callback.on_epoch_end(model, record)
        callback.on_fit_end(model)
    finally:
        callback.close()
    return model.epoch - run.first_epoch


def stops_after(values: list[float], patience: int) -> tuple[int, int]:
    """Return how many epochs early stopping lets pass, and the best of them: by another route."""
    best, best_epoch = math.inf, 0
    for epoch, value in enumerate(values, 1):
        if value < best:  # neither NaN nor infinity is
            best, best_epoch = value, epoch
        if epoch - best_epoch >= patience:
            return epoch, best_epoch
    return len(values), best_epoch


@given(losses, st.integers(1, 5))
def test_early_stopping_stops_and_restores_the_best(values: list[float], patience: int) -> None:
    model, stopping = Model(), EarlyStopping(patience=patience)
    passed, best = stops_after(values, patience)
    assert fit(model, stopping, values) == passed
    assert stopping.best_epoch == best
    assert model.vector[0] == (best or passed)
    assert stopping.best_value == (values[best - 1] if best else None)
    assert bool(stopping.stopped_epoch) == (passed - best >= patience)


@given(losses, st.integers(1, 4), st.integers(0, 25))
def test_early_stopping_goes_on_from_its_state(
    values: list[float], patience: int, cut: int
) -> None:
    whole = Model()
    expected = fit(whole, EarlyStopping(patience=patience), values)
    model, run = Model(), Run(0, len(values), 5, 10, 50)
    before = EarlyStopping(patience=patience)
    before.on_fit_start(model, run)

    def until_killed(trainer: Any, record: Any) -> bool:
        return bool(before.on_epoch_end(trainer, record)) or record["epoch"] == cut

    fit(model, until_killed, values, run=run)
    after = EarlyStopping(patience=patience)
    after.restore(before.state())
    fit(model, after, values, run=run)
    assert model.epoch == expected
    assert model.vector == whole.vector


def test_early_stopping_by_hand() -> None:
    model, stopping = Model(), EarlyStopping(patience=2, min_delta=0.1)
    assert fit(model, stopping, [1.0, 0.95, 0.8, 0.75, 0.71, 0.1]) == 5
    assert (stopping.best_value, stopping.best_epoch, stopping.stopped_epoch) == (0.8, 3, 5)
    assert model.vector == 3


@given(losses, st.integers(1, 3), st.integers(1, 3))
def test_a_run_that_was_ended_goes_on_with_more_patience(
    values: list[float], patience: int, more: int
) -> None:
    whole = Model()
    expected = fit(whole, EarlyStopping(patience=patience + more), values)
    model, first = Model(), EarlyStopping(patience=patience)
    fit(model, first, values)
    again = EarlyStopping(patience=patience + more)
    again.restore(first.state())
    run = Run(0, len(values), 5, 10, 50)
    assert fit(model, again, values, run=run) == expected
    assert model.vector == whole.vector


def test_best_parameters_are_left_alone_if_not_wanted() -> None:
    model = Model()
    fit(model, EarlyStopping(patience=1, restore_best=False), [1.0, 2.0, 3.0])
    assert model.vector == 2


@pytest.mark.parametrize(
    ("monitor", "mode", "epochs"),
    [
        ("val_accuracy", "auto", 4),
        ("val_r2", "auto", 4),
        ("val_rmse", "auto", 2),
        ("val_accuracy", "min", 2),
        ("val_rmse", "max", 4),
    ],
)
def test_the_mode_follows_the_name(monitor: str, mode: str, epochs: int) -> None:
    stopping = EarlyStopping(monitor, patience=1, mode=mode)
    assert fit(Model(), stopping, [0.1, 0.2, 0.3, 0.3, 0.4], monitor) == epochs


def test_each_run_starts_afresh() -> None:
    model, stopping = Model(), EarlyStopping(patience=1)
    assert fit(model, stopping, [0.1, 0.2]) == 2
    assert fit(model, stopping, [0.9, 0.8, 0.85]) == 3
    assert stopping.best_epoch == 4


def test_without_validation_the_training_loss_is_monitored_and_it_is_said() -> None:
    stopping = EarlyStopping(patience=2)
    with pytest.warns(UserWarning, match="no validation data, so the training loss") as caught:
        assert fit(Model(), stopping, [9.0, 9.0, 9.0, 9.0], "lr") == 3  # the loss is always 0.5
    assert len(caught) == 1
    assert fit(Model(), stopping, [0.3, 0.2, 0.1]) == 3


def test_a_number_that_no_record_has() -> None:
    with pytest.raises(InputError, match=r"unknown monitored number 'val_acc'; .*val_accuracy"):
        fit(Model(), EarlyStopping("val_acc"), [0.5], "val_accuracy")


def test_its_state_is_json_and_arrays() -> None:
    stopping = EarlyStopping(patience=3)
    fit(Model(), stopping, [0.5, 0.4, 0.6])
    state = stopping.state()
    assert state.pop("parameters").tolist() == [2.0]
    assert state.pop("last").tolist() == [3.0]
    assert state == {"value": 0.4, "epoch": 2, "wait": 1, "stopped_epoch": 0}
    assert stopping.key == "early_stopping:val_loss"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping(patience=0), "patience must be a whole number at least 1, got 0"),
        (lambda: EarlyStopping(patience=1.5), "patience must be"),
        (lambda: EarlyStopping(min_delta=-1), "min_delta must be a finite number at least 0"),
        (lambda: EarlyStopping(mode="maximum"), "unknown mode 'maximum'"),
        (lambda: Checkpoint("a", every=0), "every must be a whole number at least 1, got 0"),
    ],
)
def test_bad_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("every", "epochs", "expected"), [(1, 3, [1, 2, 3, 3]), (2, 5, [2, 4, 5]), (10, 3, [3])]
)
def test_checkpoints(every: int, epochs: int, expected: list[int], tmp_path: Path) -> None:
    model = Model()
    fit(model, Checkpoint(tmp_path / "m.gpubp", every), [1.0] * epochs)
    assert model.saved == [("m.gpubp", epoch) for epoch in expected]
    assert os.listdir(tmp_path) == []  # the check of the path leaves nothing


def test_the_best_model_is_kept_beside(tmp_path: Path) -> None:
    model = Model()
    checkpoint = Checkpoint(tmp_path / "m.gpubp", every=9, best="val_accuracy")
    fit(model, checkpoint, [0.5, 0.4, 0.6], "val_accuracy")
    assert model.saved == [("m.best.gpubp", 1), ("m.best.gpubp", 3), ("m.gpubp", 3)]
    after = Checkpoint(tmp_path / "m.gpubp", best="val_accuracy")
    after.restore(checkpoint.state())
    model.saved.clear()
    fit(model, after, [0.55], "val_accuracy")
    assert model.saved == [("m.gpubp", 4)] * 2  # after the epoch, and at the end
    fit(model, after, [0.55], "val_accuracy")  # a new run
    assert model.saved[2:] == [("m.best.gpubp", 5), ("m.gpubp", 5), ("m.gpubp", 5)]


@pytest.mark.parametrize(
    "make",
    [
        Checkpoint,
        HistoryCSV,
        lambda path: Checkpoint(path.parent.parent / "m", best="loss"),
    ],
)
def test_a_path_that_cannot_be_written_to_is_refused_before_training(
    make: Any, tmp_path: Path
) -> None:
    (tmp_path / "m.best").mkdir()
    model = Model()
    with pytest.raises(SaveError):
        fit(model, make(tmp_path / "missing" / "m"), [1.0])
    assert model.epoch == 0


@pytest.mark.parametrize(
    ("answer", "epochs"), [(True, 1), (np.True_, 1), (None, 3), (False, 3), (1, 3), ("yes", 3)]
)
def test_a_function_ends_the_run_by_true_alone(answer: Any, epochs: int) -> None:
    assert fit(Model(), lambda trainer, record: answer, [1.0] * 3) == epochs


def test_a_function_is_given_trainer_and_record() -> None:
    model, seen = Model(), []
    fit(model, lambda trainer, record: seen.append((trainer, record["val_loss"])), [3.0, 2.0])
    assert seen == [(model, 3.0), (model, 2.0)]


def test_an_error_in_a_function_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        fit(Model(), lambda trainer, record: 1 / 0, [1.0])


@pytest.mark.parametrize(
    ("thing", "message"),
    [(EarlyStopping, "EarlyStopping is a class; make one"), (3, "3 is neither")],
)
def test_other_things_are_no_callbacks(thing: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        as_callback(thing)


def test_what_saves_comes_last_and_the_rest_keeps_its_order(tmp_path: Path) -> None:
    checkpoint, function, stopping = Checkpoint(tmp_path / "m"), print, EarlyStopping()
    ordered = as_callbacks([checkpoint, function, stopping])
    assert ordered[0].function is print
    assert ordered[1:] == [stopping, checkpoint]


def test_two_states_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match=r"2 callbacks .* 'early_stopping:val_loss'"):
        as_callbacks([EarlyStopping(), EarlyStopping(patience=3)])
    assert len(as_callbacks([EarlyStopping(), EarlyStopping("loss"), print, print])) == 4


def test_the_base_does_nothing() -> None:
    callback = Callback()
    assert fit(Model(), callback, [1.0, 2.0]) == 2
    assert callback.state() == {}
    callback.restore({})


def test_a_plain_line_an_epoch_where_there_is_no_terminal() -> None:
    out, model = io.StringIO(), Model()
    model.epoch = 8
    fit(model, ProgressLine(out), [0.25, 0.125])
    assert out.getvalue().splitlines() == [
        "epoch  9/10  step 45  loss 0.5  val_loss 0.25  25 samples/s  0:00:02 left",
        "epoch 10/10  step 50  loss 0.5  val_loss 0.125  25 samples/s  0:00:00 left",
    ]


def on_a_terminal(code: str, columns: int = 100) -> str:
    """Run code whose standard error is a terminal; return all that it shows."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=terminal, env=environment
    ) as process:
        os.close(terminal)
        with contextlib.suppress(OSError):  # raised when the program has closed the terminal
            while part := os.read(controller, 4096):
                shown += part
    os.close(controller)
    assert process.returncode == 0, shown
    return shown.decode()


_LIVE = """
from types import SimpleNamespace
from gpubp import callbacks
from gpubp.callbacks import Progress, ProgressLine, Run
callbacks._LINE_SECONDS = 0
trainer, line = SimpleNamespace(epoch=4), ProgressLine()
line.on_fit_start(trainer, Run(4, 2, 50, 10, 500))
for epoch in (5, 6):
    line.on_progress(trainer, Progress(epoch, 25, 50, 0.75))
    record = dict(epoch=epoch, step=50, loss=0.5, lr=0.1, seconds=1.0, samples_per_second=9.0)
    line.on_epoch_end(trainer, {**record, "val_loss": 0.4, "val_accuracy": 0.875})
line.close()
"""


def test_a_live_line_on_a_terminal() -> None:
    shown = on_a_terminal(_LIVE)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").split("\n")
    assert any("epoch 5/6" in line and "step 25/50 loss 0.75" in line for line in lines)
    last = [line for line in lines if line.strip()][-1]
    assert "epoch 6/6" in last
    assert "step 50/50 loss 0.5 val_accuracy 0.875" in last
    assert "samples/s" in last
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is shown again


@pytest.mark.parametrize(
    ("width", "parts", "bar"),
    [
        (30, ["epoch 3/6", "loss 0.13 val_accuracy 0.955"], 0),
        (38, ["epoch 3/6", "loss 0.13 val_accuracy 0.955"], 0),
        (45, ["epoch 3/6", "loss 0.13 val_accuracy 0.955", "00:02"], 0),
        (60, ["epoch 3/6", "loss 0.13 val_accuracy 0.955", "00:02"], 15),
        (78, ["epoch 3/6", "step 20/40", "loss 0.13 val_accuracy 0.955", "00:02"], 22),
        (
            100,
            ["epoch 3/6", "step 20/40", "loss 0.13 val_accuracy 0.955", "3,048 samples/s", "00:02"],
            28,
        ),
    ],
)
def test_what_has_room_in_the_live_line(width: int, parts: list[str], bar: int) -> None:
    found = fitted(
        width, "epoch 3/6", "loss 0.13 val_accuracy 0.955",
        left="00:02", step="step 20/40", rate="3,048 samples/s",
    )  # fmt: skip
    assert found == (parts, bar)
    if bar:
        assert sum(len(part) + 1 for part in parts) + bar == width


@pytest.mark.parametrize("width", [60, 80])
def test_a_live_line_in_a_narrow_terminal_loses_no_number(width: int) -> None:
    shown = on_a_terminal(_LIVE, width)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n").split("\n")
    last = [line for line in lines if line.strip()][-1]
    assert len(last) < width
    assert last.startswith("epoch 6/6 ")
    assert "loss 0.5 val_accuracy 0.875" in last


def test_the_live_line_is_not_drawn_for_every_short_epoch() -> None:
    still = "callbacks.time.monotonic = lambda: 0.0"
    code = _LIVE.replace("callbacks._LINE_SECONDS = 0", still).replace("(5, 6)", "range(5, 500)")
    assert on_a_terminal(code).count("epoch") < 10


def test_importing_imports_neither_rich_nor_matplotlib() -> None:
    code = """
import sys, gpubp.callbacks
assert not {"rich", "matplotlib", "numba", "safetensors"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
