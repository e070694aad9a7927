"""A step split by units computes what a step of one thread does, and says where it can't be had."""

from __future__ import annotations

import numpy as np
import pytest

from gpubp import Dense, Dropout, Sequential, Trainer
from gpubp.backends import numba as backend
from gpubp.backends import numba_choices
from gpubp.backends.numba import Pace
from gpubp.backends.numba_units import UnitWriter, divisible
from gpubp.errors import InputError, NonFiniteError
from gpubp.kernels.numba.tile import SUITED
from gpubp.optimizers import OPTIMIZERS

pytestmark = pytest.mark.skipif(not SUITED, reason="shares by units take tiles, and these AVX2")

RNG = np.random.default_rng(8)
X = RNG.standard_normal((203, 70)).astype(np.float32)
Y = RNG.integers(0, 5, 203)
NETWORKS = {
    "relu": (Dense(64, "relu"), Dense(50, "relu"), Dense(5)),
    "others": (Dense(48, "tanh"), Dense(100, "gelu"), Dense(49, "sigmoid"), Dense(5)),
    "linear": (Dense(64), Dense(64), Dense(5)),
    "dropout": (Dense(64, "relu"), Dropout(0.3), Dense(48, "tanh"), Dropout(0.2), Dense(5)),
    "dropout of the data": (Dropout(0.2), Dense(64, "relu"), Dense(5)),
    "without bias": (Dense(64, "relu", bias=False), Dense(5, bias=False)),
    "one layer": (Dense(5),),
}


def make(name="relu", *, by="units", shares=3, **settings):
    layers = Sequential(*NETWORKS[name])
    settings = {"precision": "fp64", "seed": 3, **settings}
    return Trainer(layers, backend="numba", threads=3, shares=shares, share_by=by, **settings)


def fitted(trainer, epochs=3, batch_size=40, **options):
    trainer.fit(X, Y, epochs=epochs, batch_size=batch_size, **options)
    return trainer.parameters(), trainer.history.column("loss")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shares", [2, 3])
def test_the_result_is_that_of_one_thread(name, shares):
    """Within the rounding of sums in another order; minibatches of 40 rows and one of 3."""
    parameters, losses = fitted(make(name, shares=shares))
    expected, expected_losses = fitted(make(name, by="rows", shares=1))
    np.testing.assert_allclose(parameters, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-12)


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
def test_every_update_covers_every_parameter_once(optimizer):
    settings = {"optimizer": optimizer, "l1": 1e-4, "l2": 1e-3, "clip_value": 0.1, "clip_norm": 0.5}
    parameters, _ = fitted(make("others", **settings))
    expected, _ = fitted(make("others", by="rows", shares=1, **settings))
    np.testing.assert_allclose(parameters, expected, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_threads_give_the_bits_of_one_after_the_other(name, monkeypatch):
    """A barrier that is missing shows here: one thread needs none."""
    found = []
    for ways in ((False,), (True,), (True, False)):
        turns = iter(ways * 10_000)
        with monkeypatch.context() as patch:
            patch.setattr(Pace, "choose", lambda self, n, turns=turns: (next(turns), min(n, 3)))
            found.append(fitted(make(name, precision="fp32"), epochs=8))
    for parameters, losses in found[1:]:
        np.testing.assert_array_equal(parameters, found[0][0])
        np.testing.assert_array_equal(losses, found[0][1])


def test_resumption_is_bit_identical(tmp_path):
    expected, _ = fitted(make(), epochs=4)
    first = make()
    fitted(first, epochs=2)
    first.save(tmp_path / "model")
    again = Trainer.load(tmp_path / "model")
    assert (again.share_by, again.shares) == ("units", 3)
    parameters, _ = fitted(again, epochs=2)
    np.testing.assert_array_equal(parameters, expected)


def test_a_choice_by_the_machine_is_kept_in_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(numba_choices, "_kept", lambda: None)
    monkeypatch.setattr(numba_choices, "MINIMUM_FLOPS", 1)
    monkeypatch.setattr(numba_choices, "sends_less", lambda plan: True)
    trainer = make(by="auto", shares=None)
    fitted(trainer)
    assert "by units (by the rule)" in trainer.explain(40)
    assert "by tiles (for shares by units)" in trainer.explain(40)
    trainer.save(tmp_path / "model")
    monkeypatch.setattr(numba_choices, "sends_less", lambda plan: False)
    again = Trainer.load(tmp_path / "model")
    again.fit(X, Y, epochs=1, batch_size=40)
    assert "by units (as in the checkpoint)" in again.explain(40)
    trainer.fit(X, Y, epochs=1, batch_size=40)
    np.testing.assert_array_equal(again.parameters(), trainer.parameters())


def test_a_loss_that_is_not_finite_stops_before_the_update():
    trainer = make(precision="fp32", optimizer="sgd")
    trainer.initialize(70)
    before = trainer.parameters()
    bad = X.copy()
    bad[5] = 3e38
    with pytest.raises(NonFiniteError):
        trainer.fit(bad, Y, epochs=1, batch_size=203, shuffle=False)
    np.testing.assert_array_equal(trainer.parameters(), before)


def plan(*layers, features=70, precision="fp32", **settings):
    trainer = Trainer(Sequential(*layers), backend="numba", precision=precision, **settings)
    trainer.initialize(features)
    return trainer._engine.training_plan(trainer._usual_inputs(), 64)


def test_what_can_be_divided():
    assert divisible(plan(*NETWORKS["relu"]), 3)
    assert not divisible(plan(*NETWORKS["relu"]), 4), "50 inputs of the last layer, under 64"
    assert not divisible(plan(*NETWORKS["relu"], precision="bf16"), 2)
    assert not divisible(plan(Dense(64, bias=False), Dense(5)), 2), "a bare sum is multiplied"


def test_what_cannot_be_divided_is_said_with_the_remedy():
    trainer = Trainer(Sequential(Dense(5)), backend="numba", threads=2, share_by="units", shares=2)
    with pytest.raises(
        InputError, match=r"dense layers of at least 32 inputs.*use share_by='auto'"
    ):
        trainer.fit(np.ascontiguousarray(X[:, :20]), Y, epochs=1)
    with pytest.raises(InputError, match="share_by"):
        Trainer(Sequential(Dense(5)), share_by="columns")


def test_the_rule_weighs_what_threads_send_each_other():
    """512-512-10: units for minibatches of few rows; tiny networks never."""
    wide = plan(Dense(512, "relu"), Dense(10), features=512)
    assert numba_choices.sends_less(wide)
    assert not numba_choices.sends_less(plan(Dense(64, "relu"), Dense(10), features=64))


def test_units_are_for_tiles(tmp_path):
    """Who asks for another routine gets it, in a checkpoint of shares by units too."""
    with pytest.raises(InputError, match="gemm 'auto' or 'tiles'"):
        fitted(make(gemm="blas"))
    trainer = make(by="auto", gemm="blas")
    fitted(trainer)
    assert "3 by rows" in trainer.explain(40)
    first = make()
    fitted(first)
    first.save(tmp_path / "model")
    again = Trainer.load(tmp_path / "model", gemm="blas", share_by="auto")
    fitted(again)
    assert "3 by rows" in again.explain(40)


def test_the_writer_is_used(monkeypatch):
    used = []

    class Spy(UnitWriter):
        def __init__(self, shares, barrier):
            used.append(len(shares))
            super().__init__(shares, barrier)

    monkeypatch.setattr(backend, "UnitWriter", Spy)
    fitted(make(), epochs=1)
    assert used == [3, 3], "of whole minibatches, and of what is left of an epoch"
