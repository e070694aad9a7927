"""Everybody computes the same: the oracle of the benchmarks, gpubp and the peers that are here."""

from dataclasses import replace

import numpy as np
import pytest

from gpubp import devices
from gpubp.bench import oracle, race
from gpubp.bench.cases import ACTIVATIONS, Case
from gpubp.bench.contenders import ENTRIES, OURS, products
from gpubp.bench.contenders.ours import Ours
from gpubp.bench.processes import Worker

CASE = Case((7, 9, 6, 3), batch=8, steps=5)
ONCE = race.Plan(rounds=1, seconds=0.001)
# bf16 whether or not gpubp computes in it here: peers do.
OTHERS = ("fp64", "bf16")
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
            *zip(["relu"] * len(OTHERS), OTHERS, strict=True),
        ]:
            case = replace(CASE, activation=activation, precision=precision)
            if not entry.suits(case) or (precision != "fp32" and entry.threads):
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


@pytest.mark.parametrize("device", ["cpu"])
@pytest.mark.parametrize("precision", devices.PRECISIONS)
def test_gpubp_is_timed_in_what_its_backends_have(device, precision):
    case = replace(CASE, device=device, precision=precision)
    for entry in ENTRIES:
        if entry.role == "ours":
            choice = devices.resolve(device, entry.options.get("backend"))
            assert entry.suits(case) == devices.has_precision(choice, precision)


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if e.place.startswith("products")], ids=lambda entry: entry.name
)
def test_the_floor_multiplies_what_a_step_does(entry, precision):
    case = replace(CASE, precision=precision)
    if entry.missing or not entry.suits(case):
        pytest.skip(entry.missing or "it has no such product")
    made = entry.load()(case, entry.threads, **entry.options)
    assert made.turn(0.0, 0.0)["step"] > 0
    assert sum(len(table) for table in made.tables) == len(made.tables) * len(
        list(case.products(case.batch))
    )
    for product in case.products(5):
        made.memory.clear()
        made.run(made._table([product]), 1)
        a, b, _ = products._arrays(product)
        a = a.reshape((product.inner, product.rows) if product.transpose_a else (-1, product.inner))
        b = b.reshape((product.columns, -1) if product.transpose_b else (product.inner, -1))
        expected = (a.T if product.transpose_a else a) @ (b.T if product.transpose_b else b)
        c = made.memory[-1 if precision == "bf16" else -2]
        tolerance = 0.1 if precision == "bf16" else 1e-5
        np.testing.assert_allclose(c.reshape(expected.shape), expected, atol=tolerance)
