"""Turns, and the processes that take them."""

import math
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gpubp.bench import race
from gpubp.bench.cases import Case
from gpubp.bench.contenders import ENTRIES, OURS
from gpubp.bench.contenders.base import Contender
from gpubp.bench.processes import Pool, Worker, WorkerError

CASE = Case((4, 5, 3), batch=8, steps=4)
NUMPY = next(entry for entry in ENTRIES if entry.setting == "numpy backend")


def state(pid):
    """Return the letter of a process's state."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_turns_are_interleaved():
    order = []
    turns = {name: lambda name=name: order.append(name) or len(order) for name in "abc"}
    assert race.take_turns(turns, 3) == {"a": [1, 4, 7], "b": [2, 5, 8], "c": [3, 6, 9]}
    assert "".join(order) == "abcabcabc"


def test_whoever_takes_too_long_has_a_few_turns_only():
    found = race.take_turns({"a": lambda: 1}, 9, patience=0.0)
    assert found == {"a": [1] * race._LEAST_ROUNDS}


def test_towards_the_deadline_there_are_the_fewest_rounds():
    past, future = time.monotonic() - 1, time.monotonic() + 60
    assert len(race.take_turns({"a": lambda: 1}, 9, least=4, deadline=past)["a"]) == 4
    assert len(race.take_turns({"a": lambda: 1}, 9, least=4, deadline=future)["a"]) == 9


class Slow(Contender):
    """An epoch takes a second but for the first few, which take three; nobody waits for it."""

    def __init__(self):
        super().__init__(CASE, None)
        self.epochs = 0

    def train(self, epochs, shuffle):
        seconds = sum(3.0 if self.epochs + i < 5 else 1.0 for i in range(epochs))
        self.epochs += epochs
        return seconds

    def loss(self):
        return None

    def epoch(self):
        return 7.0


def test_a_turn_counts_only_what_comes_after_settling():
    contender = Slow()
    # 1, 2 and 4 epochs of which the first 5 are slow: 17 seconds, and an epoch then takes 2.
    assert contender.turn(10.0, 30.0, epoch=3.0) == {"step": 1.0 / CASE.steps, "epoch": 7.0}
    assert contender.epochs == 7 + 15
    assert Slow().turn(0.0, 0.0).keys() == {"step"}


def test_gpubp_is_timed_whatever_the_time_and_others_are_left_out():
    usual = next(entry for entry in ENTRIES if entry.name == OURS)
    past = race.Plan(rounds=9, seconds=0.001, least=2, deadline=time.monotonic() - 1)
    with Pool() as pool:
        results = race.race(CASE, [NUMPY, usual], past, pool)
    assert results[NUMPY.name].missing == race.NO_TIME
    assert len(results[OURS].samples["step"]) == 2


def test_a_race_times_what_was_asked_for_and_checks_it():
    plan = race.Plan(rounds=2, seconds=0.001, phases=0.001, epoch=0.001)
    missing = replace(NUMPY, setting="missing", needs=("no_such_package",))
    broken = replace(NUMPY, setting="broken", options={"no_such": 1})
    with Pool() as pool:
        results = race.race(CASE, [NUMPY, missing, broken], plan, pool)
    found = results[NUMPY.name]
    assert found.samples.keys() == {"forward", "backward", "update", "step", "epoch"}
    assert all(len(samples) == 2 for samples in found.samples.values())
    assert race.correctness(CASE, found)["ok"]
    assert "pip install no_such_package" in results["gpubp, missing"].missing
    assert "no_such" in results["gpubp, broken"].failure
    assert not results["gpubp, broken"].samples


def test_a_worker_is_stopped_between_its_turns_and_gone_after_them():
    with Worker(NUMPY.factory) as worker:
        worker.make(CASE, threads=None, **NUMPY.options)
        pid = worker._process.pid
        assert worker.call("train", 1, False) > 0
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)  # the signal needs a moment
        assert state(pid) == "T"
    assert not Path(f"/proc/{pid}").exists()


def test_an_error_there_is_an_error_here():
    with Worker(NUMPY.factory) as worker:
        worker.make(CASE, threads=None, **NUMPY.options)
        with pytest.raises(WorkerError, match="no_such_method"):
            worker.call("no_such_method")
        assert worker.call("loss") > 0  # it lives on


def test_a_process_that_died_is_an_error():
    with Worker(NUMPY.factory) as worker:
        worker.make(CASE, threads=None, **NUMPY.options)
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="died"):
            worker.call("loss")


def test_whoever_takes_too_long_is_ended_and_started_anew():
    with Pool() as pool:
        worker = pool.worker(NUMPY.factory)
        worker.make(CASE, threads=None, **NUMPY.options)
        with pytest.raises(WorkerError, match="too long"):
            worker.call("train", 10**9, False, within=0.01)
        assert worker.ended
        again = pool.worker(NUMPY.factory)
        again.make(CASE, threads=None, within=math.inf, **NUMPY.options)
        assert again.call("loss", within=60.0) > 0


def test_a_pool_starts_a_process_once():
    with Pool() as pool:
        first = pool.worker(NUMPY.factory, "a")
        assert pool.worker(NUMPY.factory, "a") is first
        assert pool.worker(NUMPY.factory, "b") is not first
