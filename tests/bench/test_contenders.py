"""Everybody computes the same: the oracle of the benchmarks, gpubp and the peers that are here."""

from dataclasses import replace

import pytest

from gpubp.bench import oracle, race
from gpubp.bench.cases import ACTIVATIONS, Case
from gpubp.bench.contenders import ENTRIES, OURS
from gpubp.bench.contenders.ours import Ours
from gpubp.bench.processes import Worker

CASE = Case((7, 9, 6, 3), batch=8, steps=5)
ONCE = race.Plan(rounds=1, seconds=0.001)
PEERS = [e for e in ENTRIES if e.role == "peer" and "cpu" in e.devices and not e.compiler]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_oracle_agrees_with_the_reference_kernels(activation):
    case = replace(CASE, activation=activation, precision="fp64")
    ours = Ours(case, None, backend="numpy")
    before = ours.loss()
    ours.train(1, False)
    assert (before, ours.loss()) == pytest.approx(oracle.losses(case), rel=1e-12)


def test_the_oracle_moves():
    before, after = oracle.losses(CASE)
    assert abs(before - after) > 10 * oracle.TOLERANCES["fp32"]


@pytest.mark.parametrize("entry", PEERS, ids=lambda entry: entry.name)
def test_peers_agree_with_the_oracle(entry):
    if entry.missing:
        pytest.skip(entry.missing)
    with Worker(entry.factory) as worker:
        for activation, precision in [
            *zip(ACTIVATIONS, ["fp32"] * 3, strict=True),
            ("relu", "fp64"),
        ]:
            case = replace(CASE, activation=activation, precision=precision)
            if not entry.suits(case) or (precision == "fp64" and entry.threads):
                continue
            worker.make(case, threads=entry.threads, **entry.options)
            before = worker.call("loss")
            worker.call("train", 1, False)
            result = race.Result(entry, losses=(before, worker.call("loss")))
            assert race.correctness(case, result)["ok"], (activation, precision)
            seconds, epochs = worker.call("reach", 2.0, 2)  # more than all is never right
            assert seconds > 0
            assert epochs == 2


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_training_ends_when_the_accuracy_is_reached(backend):
    ours = Ours(CASE, 1, backend=backend)
    assert ours.reach(0.0, 5)[1] == 1
    assert ours.reach(2.0, 5)[1] == 5


def test_a_wrong_loss_is_seen():
    entry = next(entry for entry in ENTRIES if entry.name == OURS)
    before, after = oracle.losses(CASE)
    good = race.Result(entry, losses=(before, after * (1 + 1e-5)))
    bad = race.Result(entry, losses=(before, after * (1 + 1e-3)))
    nothing = race.Result(entry, losses=(before, float("nan")))
    assert race.correctness(CASE, good)["ok"]
    assert not race.correctness(CASE, bad)["ok"]
    assert not race.correctness(CASE, nothing)["ok"]
    assert race.correctness(CASE, race.Result(entry, losses=(None, None))) is None
