"""One thread or several: the choice follows the clock and never changes a result."""

from __future__ import annotations

import numpy as np
import pytest

import gpubp
from gpubp.backends import numba as backend
from gpubp.backends.numba import NumbaExecutable, Pace


def _train(
    monkeypatch: pytest.MonkeyPatch, shared: tuple[bool, ...]
) -> tuple[np.ndarray, list[float]]:
    """Train on three shares, the runs in turn on three threads or on one as ``shared`` says."""
    turns = iter(shared * 1000)
    monkeypatch.setattr(backend, "MINIMUM_FLOPS", 0)
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
    segment = NumbaExecutable._segment
    monkeypatch.setattr(
        NumbaExecutable,
        "_segment",
        lambda self, programs, steps: used.append(len(programs)) or segment(self, programs, steps),
    )
    _train(monkeypatch, (True, False))
    assert {1, 3} <= set(used)


def test_choice_is_the_faster_way_and_the_other_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(backend.time, "perf_counter", lambda: now)
    pace = Pace()
    cost = {True: 1e-4, False: 3e-4}
    taken = {True: 0.0, False: 0.0}
    for _ in range(200):
        way, steps = pace.choose(10_000)
        assert 1 <= steps <= 10_000
        pace.note(way, steps, steps * cost[way])
        taken[way] += steps * cost[way]
        now += steps * cost[way]
        if now > 5:
            cost = {True: 9e-4, False: 3e-4}  # the machine has become busy
    # The run that was begun by the old estimate takes nine times its half second; trials take 2 %.
    unaware = 9 * Pace.RETRY_SECONDS
    assert taken[False] > 0.96 * (now - 5.5 - unaware), "did not change to the faster way"
    assert taken[True] > 4.5, "left the faster way"
