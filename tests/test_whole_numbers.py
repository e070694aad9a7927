"""Whole numbers are what ``operator.index`` takes, everywhere, and nothing else is."""

from __future__ import annotations

import json

import numpy as np
import pytest
from networks import data

import gpubp
from gpubp.callbacks import Checkpoint, EarlyStopping
from gpubp.errors import InputError

X, Y = data(rows=40)


class Index:
    """A whole number of somebody else's."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


KINDS = [np.int64, np.int32, np.uint8, np.array, int, Index]
WRONG = [2.0, np.float64(2), "2", None, True, np.True_, [2], 0, -1]


def trainer(**settings) -> gpubp.Trainer:
    network = gpubp.Sequential(gpubp.Dense(4, "relu"), gpubp.Dense(3))
    return gpubp.Trainer(network, device="cpu", **settings)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("kind", KINDS)
def test_of_a_run(kind, backend, tmp_path) -> None:
    plain = trainer(backend=backend, seed=3, threads=2)
    plain.fit(X, Y, 2, 16)
    made = trainer(backend=backend, seed=kind(3), threads=kind(2), shares=kind(1))
    made.initialize(kind(5))
    made.fit(X, Y, kind(2), kind(16), callbacks=[EarlyStopping(patience=kind(5), monitor="loss")])
    np.testing.assert_array_equal(made.parameters(), plain.parameters())
    made.trace(X, Y, kind(16))
    made.validate(X, Y, kind(16))
    assert str(made.plan(kind(16))) == str(plain.plan(16))
    assert made.explain(kind(16))
    path = tmp_path / "m.safetensors"
    made.save(path)  # the numbers are JSON
    assert gpubp.Trainer.load(path).threads == 2


@pytest.mark.parametrize("kind", KINDS)
def test_of_layers_schedules_and_callbacks(kind, tmp_path) -> None:
    assert gpubp.Dense(kind(4)) == gpubp.Dense(4)
    assert gpubp.schedules.SCHEDULES.get("step", every=kind(3)).every == 3
    assert Checkpoint(tmp_path / "m", every=kind(4)).every == 4
    json.dumps(gpubp.Sequential(gpubp.Dense(kind(4))).config())


@pytest.mark.parametrize("value", WRONG)
def test_all_else_is_refused_by_name(value) -> None:
    if value is not None:
        with pytest.raises(InputError, match=r"batch_size must be a whole number, 1 at least, got"):
            trainer().fit(X, Y, 1, value)
        with pytest.raises(InputError, match="threads must be a whole number from 1 to 4096"):
            trainer(threads=value)
    with pytest.raises(InputError, match=r"epochs must be a whole number"):
        trainer().fit(X, Y, value)
    with pytest.raises(InputError, match=r"features must be a whole number"):
        trainer().initialize(value)
    with pytest.raises(InputError, match=r"Dense: units must be a whole number"):
        gpubp.Dense(value)


@pytest.mark.parametrize("value", [2**63, 10**400])
def test_numbers_beyond_int64_are_refused(value) -> None:
    with pytest.raises(InputError, match="batch_size"):
        trainer().fit(X, Y, 1, value)
    with pytest.raises(InputError, match="epochs"):
        trainer().fit(X, Y, value)
    with pytest.raises(InputError, match="lr must be"):
        gpubp.optimizers.OPTIMIZERS.get("sgd", lr=10**400)


def test_the_default_minibatch_is_all_rows_where_there_are_few() -> None:
    made, named = trainer(seed=1), trainer(seed=1)
    made.fit(X[:20], Y[:20])
    named.fit(X[:20], Y[:20], batch_size=20)
    np.testing.assert_array_equal(made.parameters(), named.parameters())
    assert made.step == 1
    made.trace(X[:20], Y[:20])
    made.validate(X[:20], Y[:20])
    many = trainer()
    many.fit(X, Y)
    assert many.step == 2
