"""One thread or several: the choice follows the clock and never changes a result."""

from __future__ import annotations

import numpy as np
import pytest

import gpubp
from gpubp.backends import numba as backend
from gpubp.backends import numba_choices
from gpubp.backends.numba import Pace
from gpubp.backends.team import Team


def _train(
    monkeypatch: pytest.MonkeyPatch, shared: tuple[bool, ...]
) -> tuple[np.ndarray, list[float]]:
    """Train on three shares, the runs in turn on three threads or on one as ``shared`` says."""
    turns = iter(shared * 1000)
    monkeypatch.setattr(numba_choices, "MINIMUM_FLOPS", 0)
    monkeypatch.setattr(Pace, "choose", lambda self, steps: (next(turns), min(steps, 3)))
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((101, 12), dtype=np.float32), rng.integers(0, 4, 101)
    network = gpubp.Sequential(gpubp.Dense(19, "tanh"), gpubp.Dropout(0.3), gpubp.Dense(4))
    trainer = gpubp.Trainer(
        network, optimizer="adamw", backend="numba", threads=3, clip_norm=0.1, l2=1e-3, l1=1e-4
    )
    trainer.fit(X, y, epochs=5, batch_size=30, validation_fraction=0.2)
    return trainer.parameters(), trainer.history.column("loss").tolist()


@pytest.mark.parametrize("shared", [(True,), (False, True)], ids=["threads", "both in turn"])
def test_threads_give_the_bits_of_one_thread(
    monkeypatch: pytest.MonkeyPatch, shared: tuple[bool, ...]
) -> None:
    parameters, losses = _train(monkeypatch, (False,))
    others, other_losses = _train(monkeypatch, shared)
    np.testing.assert_array_equal(others, parameters)
    assert other_losses == losses


def test_minibatch_is_really_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    run = Team.run
    monkeypatch.setattr(
        Team, "run", lambda self, programs: used.append(len(programs)) or run(self, programs)
    )
    _train(monkeypatch, (True, False))
    assert {1, 3} <= set(used)


class Clock:
    """Stands in for the clock while a pace is asked, as if steps took what ``cost`` says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shared: float, alone: float) -> None:
        self.now = 1000.0
        self.cost = {True: shared, False: alone}
        self.taken = {True: 0.0, False: 0.0}
        self.pace = Pace()
        monkeypatch.setattr(backend.time, "perf_counter", lambda: self.now)

    def run(self, steps: int, overhead: float = 0.0) -> bool:
        """Run as many steps as the pace wants, of ``steps``; return whether they were shared."""
        way, count = self.pace.choose(steps)
        assert 1 <= count <= steps
        seconds = count * self.cost[way] + overhead
        self.now += seconds
        self.taken[way] += seconds
        self.pace.note(way, count, seconds)
        return way


def test_choice_is_the_faster_way_and_the_other_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch, shared=1e-4, alone=3e-4)
    while clock.now < 1005:
        clock.run(10_000)
    assert clock.taken[True] > 0.95 * 5, "left the faster way"
    clock.cost = {True: 9e-4, False: 3e-4}  # the machine has become busy
    clock.taken, begun = {True: 0.0, False: 0.0}, clock.now
    while clock.now < begun + 5:
        clock.run(10_000)
    unaware = 9 * Pace.RUN_SECONDS  # a run begun by the old estimate takes nine times as long
    assert clock.taken[False] > 0.95 * (5 - unaware), "did not change to the faster way"
    clock.cost = {True: 1e-4, False: 3e-4}
    begun = clock.now
    while not clock.run(10_000) or clock.pace._trial is not None:
        assert clock.now < begun + 1, "stayed with one thread"


def test_a_trial_of_a_slow_way_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, shared=1e-2, alone=1e-4)
    while clock.now < 1010:
        clock.run(10_000)
    # Every trial takes a step of 10 ms and one of twice as many: at most 2 % of the time, and more
    # for the two before anything is known.
    assert clock.taken[True] < 0.02 * 10 + 0.1


def test_choice_is_made_in_short_runs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns of 3 ms, between which others have the machine; the first run of each is slow."""
    clock = Clock(monkeypatch, shared=1e-4, alone=3e-4)
    ways = []
    for _ in range(300):
        clock.now += 1.0
        left = 30
        first = True
        while left:
            way, count = clock.pace.choose(left)
            seconds = count * clock.cost[way] + (0.05 if first and way else 0.0)
            clock.now += seconds
            clock.pace.note(way, count, seconds)
            left -= count
            first = False
        ways.append(way)
    assert np.mean(ways[30:]) > 0.6


def test_one_slow_run_does_not_change_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, shared=1e-4, alone=2e-4)
    while clock.now < 1002:
        clock.run(10_000)
    clock.run(10_000, overhead=0.5)
    clock.taken = {True: 0.0, False: 0.0}
    begun = clock.now
    while clock.now < begun + 1:
        clock.run(10_000)
    assert clock.taken[True] > 0.9


def test_what_is_left_of_an_epoch_does_not_decide_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs of 128 steps: runs of 1, 2, ... 64 steps, and then one step with all its overhead."""
    clock = Clock(monkeypatch, shared=2e-5, alone=2.5e-5)
    ways = []
    while clock.now < 1002:
        left = 128
        while left:
            way, count = clock.pace.choose(left)
            seconds = count * clock.cost[way] + 5e-5
            clock.now += seconds
            clock.pace.note(way, count, seconds)
            left -= count
            ways.append((way, count))
    late = ways[len(ways) // 2 :]
    assert sum(n for way, n in late if way) > 0.9 * sum(n for _, n in late)


def test_a_choice_is_made_even_if_no_run_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, shared=3e-6, alone=2e-6)
    for _ in range(5000):
        clock.run(10)
        assert clock.pace._trial is None or len(clock.pace._trial) <= 1000
    assert clock.taken[False] > clock.taken[True]


def test_a_lost_processor_does_not_decide_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads lose a processor for 4 ms in the last run of every trial of theirs."""
    clock = Clock(monkeypatch, shared=4e-5, alone=6e-5)
    while clock.now < 1005:
        way, count = clock.pace.choose(10_000)
        trial = clock.pace._trial is not None
        seconds = count * clock.cost[way] + (0.004 if trial and way and count >= 32 else 0.0)
        clock.now += seconds
        clock.taken[way] += seconds
        clock.pace.note(way, count, seconds)
    assert clock.taken[True] > 0.95 * 5


def test_trials_that_promise_too_much_become_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program takes a processor for 4 of 8 ms, so short runs of two threads are fast."""
    clock = Clock(monkeypatch, shared=4e-5, alone=6e-5)
    steps = 0
    while clock.now < 1020:
        way, count = clock.pace.choose(10_000)
        seconds = count * clock.cost[way]
        if way:
            seconds += 0.006 * int(seconds / 0.002)  # each 2 ms of work cost 6 of waiting
        clock.now += seconds
        clock.taken[way] += seconds
        clock.pace.note(way, count, seconds)
        steps += count
    assert clock.taken[True] < 0.05 * 20
    assert steps > 0.95 * 20 / 6e-5
