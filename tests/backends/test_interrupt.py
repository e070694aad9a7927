"""Ctrl-C: training stops after the step under way, and goes on as if nothing had happened."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from networks import data, load, make, split_all

from gpubp import Dense, Dropout
from gpubp.callbacks import Callback, as_callback
from gpubp.interrupts import Interrupted, Terminated, deferred, hear, stoppable, stopping

BATCH = 4
# After so many steps a run begins that is long enough to be interrupted; runs grow eightfold.
BEFORE = {"numpy": 585, "numba-1": 37449, "numba-3": 37449, "cuda": 585}
every_way = pytest.mark.parametrize("way", BEFORE)


class CtrlC(Callback):
    """Sends the signal soon after so many steps, while the next run is under way."""

    def __init__(self, steps):
        self.timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        self.steps = steps

    def on_progress(self, trainer, progress):
        if progress.steps_done == self.steps:
            self.timer.start()


class InterruptAt(Callback):
    """Raises KeyboardInterrupt when so many steps are done."""

    def __init__(self, step):
        self.step = step

    def on_progress(self, trainer, progress):
        if trainer.step == self.step:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _split(monkeypatch):
    split_all(monkeypatch)


def trainer_for(way):
    return make(way, Dense(4, "relu"), Dropout(0.3), Dense(3), precision="fp64")


def many(rows):
    X, y = data(rows=1000, features=2)
    return np.tile(X, (rows // 1000 + 1, 1))[:rows], np.tile(y, rows // 1000 + 1)[:rows]


@every_way
def test_ctrl_c_in_a_long_run(way, monkeypatch):
    """It stops well before the run's end, with the parameters of the last finished step."""
    monkeypatch.setattr("gpubp.engine._CHUNK_SECONDS", 1e9)  # one run from BEFORE to the end
    before = BEFORE[way]
    steps = 8 * before + 1
    X, y = many(BATCH * steps)
    trainer = trainer_for(way)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        trainer.fit(X, y, batch_size=BATCH, shuffle=False, callbacks=[CtrlC(before)])
        time.sleep(10)  # a machine so slow that the signal comes late: it must not end pytest
    done = trainer.step
    assert before < done < steps
    exactly = trainer_for(way)
    exactly.fit(X[: BATCH * done], y[: BATCH * done], batch_size=BATCH, shuffle=False)
    np.testing.assert_array_equal(trainer.parameters(), exactly.parameters())


def small_run(trainer, *callbacks, **options):
    """Six steps an epoch, the last one of a partial minibatch of 2 rows."""
    return trainer.fit(*data(), epochs=4, batch_size=7, callbacks=callbacks, **options)


def facts(trainer):
    """All that must not depend on interruptions."""
    clock = ("seconds", "samples_per_second")
    records = trainer.history.records
    return [{k: v for k, v in record.items() if k not in clock} for record in records]


@every_way
@pytest.mark.parametrize("through_a_file", [False, True])
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(
    way, through_a_file, monkeypatch, tmp_path
):
    expected = trainer_for(way)
    small_run(expected)
    monkeypatch.setattr("gpubp.engine._CHUNK_SECONDS", 0.0)
    trainer = trainer_for(way)
    for step in (1, 3, 5, 6, 9, 11, 18, 24):  # beside, before and after the partial minibatches
        with pytest.raises(KeyboardInterrupt):
            small_run(trainer, InterruptAt(step), resume=step > 1)
        assert trainer.step == step
        if through_a_file:
            trainer.save(tmp_path / "model.gpubp")
            trainer = load(way, tmp_path / "model.gpubp", monkeypatch)
    small_run(trainer, resume=True)
    np.testing.assert_array_equal(trainer.parameters(), expected.parameters())
    assert facts(trainer) == facts(expected)


@every_way
def test_a_new_run_after_an_interruption_starts_with_a_whole_epoch(way):
    X, y = data()
    trainer = trainer_for(way)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, y, batch_size=8, callbacks=[InterruptAt(1)])
    assert trainer.epoch == 0
    trainer.fit(X, y, batch_size=8)
    assert (trainer.step, trainer.epoch) == (6, 1)


def test_a_ctrl_c_just_as_the_old_handler_comes_back_leaves_nothing_behind(monkeypatch):
    """A deferral that seemed to go on for ever once let the next run be interrupted anywhere."""
    real, old = signal.signal, signal.getsignal(signal.SIGINT)

    def press_afterwards(number, handler):
        result = real(number, handler)
        if handler is old:
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(signal, "signal", press_afterwards)
    with pytest.raises(KeyboardInterrupt), deferred():
        pass
    monkeypatch.undo()
    later = []

    def press():
        with deferred():
            signal.raise_signal(signal.SIGINT)
            later.append("reached")

    with pytest.raises(KeyboardInterrupt):
        press()
    assert later == ["reached"]


@every_way
def test_a_storm_of_ctrl_c_changes_nothing(way):
    """Wherever the signals fall: in compiled threads, in an evaluation, between two epochs."""
    epochs = {"numpy": 200, "numba-1": 300, "numba-3": 150, "cuda": 40}[way]
    storm = Path(__file__).with_name("storm.py")
    done = subprocess.run(
        [sys.executable, storm, way, str(epochs)],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(storm.parent.parent)},
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    assert int(done.stdout) > 5


@every_way
def test_ctrl_c_in_a_callback_waits_until_all_callbacks_were_called(way):
    """What they remember of an epoch must fit the history, or a resumed run goes another way."""
    seen = []

    def press(trainer, record):
        if record["epoch"] == 2 and len(seen) < 3:
            signal.raise_signal(signal.SIGINT)
        seen.append(record["epoch"])

    def watch(trainer, record):
        seen.append(record["epoch"])

    trainer = trainer_for(way)
    with pytest.raises(KeyboardInterrupt):
        small_run(trainer, as_callback(press), as_callback(watch))
    assert seen == [1, 1, 2, 2]
    small_run(trainer, as_callback(press), as_callback(watch), resume=True)
    assert seen == [1, 1, 2, 2, 3, 3, 4, 4]


def test_ctrl_c_while_nothing_runs_waits_for_the_end_of_the_block():
    lines = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with deferred():
            signal.raise_signal(signal.SIGINT)
            lines.append("after the signal")
        lines.append("after the block")
    assert lines == ["after the signal"]


def test_the_second_ctrl_c_outside_of_a_run_counts_at_once():
    lines = []
    with pytest.raises(KeyboardInterrupt), deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        lines.append("after the first")
        signal.raise_signal(signal.SIGINT)
        lines.append("after the second")
    assert lines == ["after the first"]


def test_ctrl_c_in_a_run_tells_it_to_stop_however_often_and_counts_at_its_end():
    lines = []
    with pytest.raises(KeyboardInterrupt), deferred():  # noqa: PT012
        with stopping(lambda: lines.append("stop")):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            lines.append("ended")
        lines.append("next line")
    assert lines == ["stop", "stop", "ended"]


def test_a_run_does_not_begin_after_ctrl_c():
    with pytest.raises(KeyboardInterrupt), deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        with stopping(lambda: None):
            pytest.fail("the run began")


def test_a_handler_of_the_users_own_is_called_and_put_back():
    calls = []
    before = signal.signal(signal.SIGINT, lambda number, frame: calls.append(number))
    own = signal.getsignal(signal.SIGINT)
    try:
        with deferred():
            signal.raise_signal(signal.SIGINT)
            assert calls == []
        assert calls == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


def test_training_on_another_thread_leaves_signals_alone():
    trainer = trainer_for("numba-3")
    before = signal.getsignal(signal.SIGINT)
    handlers = []
    thread = threading.Thread(
        target=small_run,
        args=(trainer, as_callback(lambda *_: handlers.append(signal.getsignal(signal.SIGINT)))),
    )
    thread.start()
    thread.join()
    assert trainer.epoch == 4
    assert set(handlers) == {before}


@pytest.fixture
def _usual_handlers():
    """The handlers that a process begins with, whatever pytest has put in their place."""
    usual = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    assert {number: signal.getsignal(number) for number in usual} == usual
    for number, handler in before.items():
        signal.signal(number, handler)


in_a_command = pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, Terminated), (signal.SIGINT, Interrupted)]
)


@in_a_command
@pytest.mark.usefixtures("_usual_handlers")
def test_in_a_command_sigterm_stops_as_ctrl_c_does(number, error):
    lines = []
    with pytest.raises(error), stoppable() as raised, deferred():  # noqa: PT012
        signal.raise_signal(number)
        lines.append("after the signal")
        assert raised == []
    assert lines == ["after the signal"]


@in_a_command
@pytest.mark.usefixtures("_usual_handlers")
@pytest.mark.parametrize("where", [hear, lambda: deferred().__enter__()])
def test_in_a_command_what_was_lost_on_its_way_comes_again(number, error, where):
    """As an exception is in what compiled code calls back."""
    with stoppable() as raised:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        assert [type(one) for one in raised] == [error]
        with pytest.raises(error):
            where()
    hear()  # the command has ended


def test_what_somebody_handles_or_has_switched_off_is_left_alone():
    calls = []
    before = signal.signal(signal.SIGTERM, lambda *_: calls.append(1))
    other = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable() as raised:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
        assert (calls, raised) == ([1], [])
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, other)
