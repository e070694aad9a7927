"""One trainer in several threads and processes: right answers, one training at a time, copies."""

from __future__ import annotations

import copy
import itertools
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from networks import data

import gpubp
from gpubp.callbacks import EarlyStopping
from gpubp.errors import InputError
from gpubp.guard import Guard

BACKENDS = ("numpy", "numba")
X, Y = data(rows=400)


def make(backend: str, **settings) -> gpubp.Trainer:
    layers = gpubp.Dense(24, "relu"), gpubp.Dropout(0.2), gpubp.Dense(3)
    return gpubp.Trainer(gpubp.Sequential(*layers), backend=backend, device="cpu", **settings)


@pytest.mark.parametrize("backend", BACKENDS)
def test_answers_are_right_in_several_threads(backend: str) -> None:
    """Calls of different lengths share vectors, and calls of one length all their memory."""
    trainer = make(backend)
    trainer.fit(X, Y)
    lengths = (1, 30, 200, 400)
    right = {n: (trainer.predict_proba(X[:n]), trainer.evaluate(X[:n], Y[:n])) for n in lengths}

    def ask(number: int) -> bool:
        n = lengths[number % len(lengths)]
        answer = trainer.predict_proba(X[:n]), trainer.evaluate(X[:n], Y[:n])
        return np.array_equal(answer[0], right[n][0]) and answer[1] == right[n][1]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(200)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_training_is_refused_and_the_first_goes_on(backend: str) -> None:
    trainer, alone = make(backend), make(backend)
    alone.fit(X, Y, epochs=3)
    refused, answers = [], []

    def meanwhile() -> None:
        with pytest.raises(InputError, match=r"being trained already, by thread 'MainThread'"):
            trainer.fit(X, Y)
        refused.append(True)

    def callback(trainer: gpubp.Trainer, record: dict[str, float]) -> None:
        thread = threading.Thread(target=meanwhile)
        thread.start()
        thread.join()
        with pytest.raises(InputError, match="being trained already"):
            trainer.fit(X, Y)
        answers.append(trainer.predict(X[:5]))  # the thread that trains may ask

    trainer.fit(X, Y, epochs=3, callbacks=[callback])
    assert len(refused) == len(answers) == 3
    np.testing.assert_array_equal(trainer.parameters(), alone.parameters())
    trainer.fit(X, Y)  # nothing stays locked


def test_who_asks_during_a_training_waits_for_its_end() -> None:
    trainer, answers = make("numba"), []
    thread = threading.Thread(target=lambda: answers.append(trainer.predict(X)))

    def callback(trainer: gpubp.Trainer, record: dict[str, float]) -> None:
        if not thread.is_alive():
            thread.start()
        assert not answers

    trainer.fit(X, Y, epochs=1, callbacks=[callback])
    thread.join(30)
    np.testing.assert_array_equal(answers[0], trainer.predict(X))


@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")  # of JAX, if another test loaded it
def test_nothing_is_locked_in_a_forked_process() -> None:
    """Forked while another thread computes, whose lock no thread of the child would ever free."""
    trainer = make("numpy")
    trainer.fit(X, Y)
    inside, leave = threading.Event(), threading.Event()

    def computing() -> None:
        with trainer._guard.computing(), trainer._guard.training():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=computing)
    thread.start()
    inside.wait(30)
    child = os.fork()
    if child == 0:
        trainer.fit(X, Y)
        os._exit(0 if len(trainer.predict(X)) == len(X) else 1)
    leave.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def by_joblib(trainer: gpubp.Trainer, folder) -> gpubp.Trainer:
    joblib.dump(trainer, folder / "trainer")
    return joblib.load(folder / "trainer")


COPIES = {
    "pickle": lambda trainer, folder: pickle.loads(pickle.dumps(trainer)),
    "deepcopy": lambda trainer, folder: copy.deepcopy(trainer),
    "copy": lambda trainer, folder: copy.copy(trainer),
    "joblib": by_joblib,
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("backend", BACKENDS)
class TestCopies:
    def test_a_trained_one_goes_on_bit_for_bit(self, backend, how, tmp_path):
        trainer = make(backend, seed=3, threads=2, optimizer="momentum", l2=1e-3)
        trainer.fit(X, Y, epochs=2)
        trainer.save(tmp_path / "model.safetensors")
        again = COPIES[how](trainer, tmp_path)
        assert repr(again) == repr(trainer)
        assert again.history == trainer.history
        assert again.saved_to == trainer.saved_to
        again.fit(X, Y)
        before = trainer.parameters()
        trainer.fit(X, Y)
        np.testing.assert_array_equal(again.parameters(), trainer.parameters())
        assert not np.array_equal(before, trainer.parameters())

    def test_one_that_was_never_trained(self, backend, how, tmp_path):
        trainer = make(backend, seed=7, precision="fp64", schedule="cosine", clip_norm=1.0)
        again = COPIES[how](trainer, tmp_path)
        trainer.fit(X, Y)
        again.fit(X, Y)
        np.testing.assert_array_equal(again.parameters(), trainer.parameters())

    def test_an_interrupted_run_is_resumed_bit_for_bit(self, backend, how, tmp_path):
        def interrupt(trainer, record):
            if record["epoch"] == 2:
                raise KeyboardInterrupt

        whole = make(backend, schedule="cosine")
        whole.fit(X, Y, epochs=4, callbacks=[EarlyStopping(monitor="loss")])
        trainer = make(backend, schedule="cosine")
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(X, Y, epochs=4, callbacks=[EarlyStopping(monitor="loss"), interrupt])
        again = COPIES[how](trainer, tmp_path)
        again.fit(X, Y, epochs=4, callbacks=[EarlyStopping(monitor="loss")], resume=True)
        np.testing.assert_array_equal(again.parameters(), whole.parameters())


def test_ctrl_c_at_any_line_leaves_nobody_training() -> None:
    """A trainer whose fit was interrupted just as it began or ended could not be trained again."""
    code, interrupted = Guard.training.__wrapped__.__code__, 0
    for at in itertools.count(1):
        lines = itertools.count(1)

        def trace(frame, event, arg, at=at, lines=lines):
            if frame.f_code is not code:
                return None
            if event == "line" and next(lines) == at:
                raise KeyboardInterrupt
            return trace

        guard, before = Guard(), sys.gettrace()
        sys.settrace(trace)
        try:
            with guard.training():
                pass
        except KeyboardInterrupt:
            interrupted += 1
        else:
            break
        finally:
            sys.settrace(before)
        with guard.training():
            pass
    assert interrupted > 5
