"""Ctrl-C: training stops after the step under way, and goes on as if nothing had happened."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from networks import data, make, split_all

from gpubp import Dense, Dropout, Trainer
from gpubp.callbacks import Callback

BATCH = 4
# By how many steps is a run under way that is long enough to be interrupted, as runs grow eightfold.
BEFORE = {"numpy": 585, "numba-1": 37449, "numba-3": 37449}
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
    X, y = many(BATCH * (9 * before + 1))
    trainer = trainer_for(way)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, y, batch_size=BATCH, shuffle=False, callbacks=[CtrlC(before)])
        time.sleep(10)  # a machine so slow that the signal comes late: it must not end pytest
    done = trainer.step
    assert before < done < 9 * before
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
            trainer = Trainer.load(tmp_path / "model.gpubp")
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
