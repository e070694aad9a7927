"""Memory does not grow with every new length that is predicted or trained on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import make

import gpubp
from gpubp.recent import Recent


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 50)), max_size=60),
    st.integers(1, 4),
    st.integers(4, 8),
    st.integers(0, 100),
)
def test_the_latest_stay_within_the_limits(uses, least, most, room) -> None:
    table = Recent(lambda value: value[1], least=least, most=most, room=room)
    used: list[tuple[int]] = []
    for key, size in uses:
        before = dict(table)
        value = table.get_or_make((key,), lambda made=(key, size): made)
        assert value == before.get((key,), (key, size))
        used = [k for k in used if k != (key,)] + [(key,)]
        assert list(table) == used[-len(table) :], "not the latest, or not in their order"
        assert len(table) <= most
        total = sum(size for _, size in table.values())
        assert len(table) <= least or total <= room


@pytest.mark.parametrize("way", ["numpy", "numba-2", "cuda"])
def test_many_lengths_take_the_memory_of_a_few(way: str) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 12)).astype("f4"), rng.integers(0, 3, 600)
    trainer = make(way, gpubp.Dense(16, "relu"), gpubp.Dense(3))
    trainer.fit(X, y, batch_size=32)
    right = trainer.predict_proba(X)
    held = trainer._trained()._executables
    for rows in range(1, 120):
        found = trainer.predict_proba(X[:rows])
        np.testing.assert_allclose(found, right[:rows], rtol=1e-5)
    for rows in range(40, 100):
        trainer.fit(X[:rows], y[:rows], batch_size=32)
    assert len(held) <= 32


def test_large_ones_stay_while_a_run_needs_them() -> None:
    """Two minibatches and two lengths to evaluate, each larger than the room for all."""
    trainer = make("numba-1", gpubp.Dense(2048, "relu"), gpubp.Dense(3))
    X, y = np.ones((9000, 4), np.float32), np.arange(9000) % 3
    trainer.fit(X[:7000], y[:7000], batch_size=4000, validation_data=(X, y))
    held = dict(trainer._trained()._executables)
    assert sum(executable.bytes for executable in held.values()) > 64 << 20
    trainer.fit(X[:7000], y[:7000], batch_size=4000, validation_data=(X, y))
    assert dict(trainer._trained()._executables) == held
