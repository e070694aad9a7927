"""Threads that wait for programs: all are run, however long the threads had nothing to do."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from gpubp.backends.numba_program import Program, make_row
from gpubp.backends.team import Team
from gpubp.kernels.numba import runner


class Adder:
    """A program that adds ``x`` to ``y``, of its own, once a step."""

    def __init__(self) -> None:
        self.x, self.y = np.ones(3, np.float32), np.zeros(3, np.float32)
        self.program = Program([make_row("add", [self.x, self.y], ("float32",) * 2, {})])

    def words(self, steps: int) -> np.ndarray:
        self.program.words[runner.STEPS] = steps
        return self.program.words


def run(team: Team, programs: list[np.ndarray]) -> None:
    assert team.ready(len(programs))
    team.run(programs)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_program_is_run_to_its_end_before_run_returns(size: int) -> None:
    team, adders = Team(size), [Adder() for _ in range(size)]
    done = 0
    for steps, pause in [(1, 0.0), (1000, 0.0), (7, 0.05), (100_000, 0.0), (3, 0.001)]:
        time.sleep(pause)  # short: the threads still look; long: they have to be woken
        run(team, [adder.words(steps) for adder in adders])
        done += steps
        assert [float(adder.y[0]) for adder in adders] == [done] * size


def test_fewer_programs_than_threads() -> None:
    team, adders = Team(4), [Adder() for _ in range(4)]
    for count in (4, 2, 1, 3):
        run(team, [adder.words(5) for adder in adders[:count]])
    assert [float(adder.y[0]) for adder in adders] == [20, 15, 10, 5]


def test_a_program_that_comes_just_as_a_thread_gives_up_is_not_lost() -> None:
    """Pauses around the time for which threads look for the next program."""
    team, adders = Team(3), [Adder() for _ in range(3)]
    rng = np.random.default_rng(0)
    begun, runs = time.perf_counter(), 0
    while time.perf_counter() < begun + 2:
        until = time.perf_counter() + rng.uniform(0, 1e-3)
        while time.perf_counter() < until:
            pass
        run(team, [adder.words(1) for adder in adders])
        runs += 1
    assert [float(adder.y[0]) for adder in adders] == [runs] * 3


def test_threads_that_have_nothing_to_do_sleep() -> None:
    """The processor's time of a long pause is not theirs."""
    team, adders = Team(3), [Adder() for _ in range(3)]
    run(team, [adder.words(1) for adder in adders])
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_threads_end_with_their_team() -> None:
    before = set(threading.enumerate())
    team, adders = Team(3), [Adder() for _ in range(3)]
    run(team, [adder.words(1) for adder in adders])
    started = set(threading.enumerate()) - before
    assert started
    del team
    for thread in started:
        thread.join(timeout=10)
        assert not thread.is_alive()
