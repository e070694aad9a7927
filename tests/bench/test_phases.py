"""A step cut short computes what the whole one does, as far as it goes."""

import numpy as np
import pytest
from host_cuda import build
from host_cuda.driver import Machine

import gpubp
from gpubp.backends import numba_choices
from gpubp.backends.cupy import CupyBackend
from gpubp.bench import phases
from gpubp.bench.cases import Case
from gpubp.bench.contenders.ours import make_trainer
from gpubp.plan.ir import GRADS, PARAMS

CASE = Case((5, 8, 3), batch=16, steps=3)


@pytest.fixture(params=["numba", "numba on threads", "numpy", "cuda"])
def trainer(request, monkeypatch):
    if request.param == "numba on threads":
        monkeypatch.setattr(numba_choices, "MINIMUM_FLOPS", 0)
        return make_trainer(CASE, threads=2, backend="numba")
    if request.param != "cuda":
        return make_trainer(CASE, threads=1, backend=request.param)
    if build.missing_compiler():
        pytest.skip(build.missing_compiler())
    made = gpubp.Trainer(gpubp.Sequential(gpubp.Dense(8, "relu"), gpubp.Dense(3)), backend="numpy")
    made._backend = CupyBackend(Machine().drivers[0])
    made.initialize(CASE.sizes[0])
    return made


def test_the_cut_plans_are_beginnings_of_the_step_that_go_on(trainer):
    plan = trainer.plan(CASE.batch)
    forward, backward, whole = (phases.cut(plan, end) for end in phases.PHASES)
    assert whole == plan
    assert forward.calls[:-1] == plan.forward
    assert backward.calls[:-1] == plan.forward + plan.backward
    assert forward.calls[-1].kernel == backward.calls[-1].kernel == "advance"


def test_a_run_cut_short_leaves_parameters_alone_and_writes_gradients(trainer):
    run = phases.Phases(trainer, *CASE.data(), CASE.batch)
    engine = trainer._trained()
    with trainer._backend.active():
        params = engine.read(PARAMS)
        for executable in run._runs[:2]:
            engine.vectors[GRADS][...] = 0
            phases._rewind(engine)
            executable.run(CASE.steps)
            np.testing.assert_array_equal(engine.read(PARAMS), params)
            assert engine.row == CASE.rows
            assert engine.read(GRADS).any() == (executable is run._runs[1])
        phases._rewind(engine)
        run._runs[2].run(CASE.steps)
        assert not np.array_equal(engine.read(PARAMS), params)


def test_phases_add_up_to_the_step(trainer):
    found = phases.Phases(trainer, *CASE.data(), CASE.batch).turn(0.01)
    assert all(seconds >= 0 for seconds in found.values())
    assert found["step"] > 0
    # Above it only by what noise hid.
    assert sum(found[name] for name in phases.PHASES) >= found["step"] * (1 - 1e-9)


def test_training_goes_on_beside_the_phases(trainer):
    run = phases.Phases(trainer, *CASE.data(), CASE.batch)
    trainer.fit(*CASE.data(), 1, CASE.batch)
    run.turn(0.001)
    trainer.fit(*CASE.data(), 1, CASE.batch)
    assert trainer.epoch == 2


def test_costs_add_up(trainer):
    found = phases.costs(trainer.plan(CASE.batch), trainer)
    for what in ("flops", "bytes", "calls"):
        assert sum(found[name][what] for name in phases.PHASES) == found["step"][what]
    assert found["step"]["flops"] == trainer.plan(CASE.batch).flops
    # Parameters, gradients and Adam's two, and something besides.
    assert found["set"] > 4 * trainer.parameters().nbytes
    # Some products have an epilogue, and are products none the less.
    products = [c for c in trainer.plan(CASE.batch).calls if c.kernel.startswith("matmul")]
    others = found["step"]["bytes"] - sum(call.bytes for call in products)
    assert len(products) == 5
    assert found["elementwise"] == others
