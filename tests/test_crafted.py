"""A model file may come from anybody: whatever it says, it is refused in words or it trains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpubp import Dense, Sequential, Trainer, checkpoint, state
from gpubp.callbacks import EarlyStopping
from gpubp.errors import CheckpointError

X, Y = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), np.arange(40) % 3


def fuzz(seed: int, count: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("crafted.py"), str(seed), str(count)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_mutations_of_a_document_are_refused_or_train() -> None:
    found = fuzz(seed=1, count=400)
    assert found["refused"] > 100
    assert found["went on"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 22))
def test_a_hundred_thousand_mutations(seed: int) -> None:
    fuzz(seed, count=5000)


def crafted(tmp_path: Path, change, precision: str = "fp32", **settings) -> Path:
    """A file of a run that was interrupted after two epochs of three, and changed."""

    def interrupted(trainer, record):
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    network = Sequential(Dense(8, "relu"), Dense(3))
    trainer = Trainer(network, backend="numba", device="cpu", precision=precision, **settings)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, 3, 16, callbacks=[EarlyStopping("loss"), interrupted])
    tensors, document = state.collect(trainer)
    document = json.loads(json.dumps(document))
    change(document)
    checkpoint.save(tmp_path / "m", tensors, document)
    return tmp_path / "m"


COUNTERS = {
    "progress": ["row", "step"],
    "run": ["first_epoch", "epochs", "steps_per_epoch", "batch_size", "rows"],
}
WRONG = [-1, 1, 21, -(10**6), 10**6, -(2**40), 2**40, 2**62, 2**63, None, "a", 1.5, True]


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("name", [f"{k}.{n}" for k, names in COUNTERS.items() for n in names])
def test_counters_that_disagree_are_refused(name: str, value: object, tmp_path: Path) -> None:
    holder, key = name.split(".")
    if name == "run.epochs" and value in (21, 10**6, 2**40):
        return  # a run may be planned to be longer
    path = crafted(tmp_path, lambda d: d[holder].update({key: value}))
    with pytest.raises(CheckpointError, match=r"/m does not describe") as caught:
        Trainer.load(path)
    assert key in str(caught.value) or "counters disagree" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(features=3 * 10**7),
        lambda d: d["network"][0].update(units=10**8),
        lambda d: d["network"][0].update(units=10**18),
        lambda d: d.update(features=2**62),
        lambda d: d.update(threads=10**9),
        lambda d: d.update(network=d["network"] + [{"name": "dropout", "rate": 0.0}] * 10**5),
        lambda d: d.update(network=[{"name": "dense", "units": 1}] * 9000),
        lambda d: d["progress"].update(sums=[1.0] * 10**5),
        lambda d: d["progress"].update(sums=[float("nan")]),
        lambda d: d["optimizer"].update(lr=10**400),
        lambda d: d["choices"].update(shares="ab"),
        lambda d: d["choices"].update(shares={"16": "9999999 by rows"}),
        lambda d: d.update(schedule={"name": "warmup", "then": {"name": "warmup", "then": 3}}),
    ],
)
def test_what_would_take_memory_or_time_is_refused_before(change, tmp_path: Path) -> None:
    path = crafted(tmp_path, change)
    with pytest.raises(CheckpointError):
        Trainer.load(path)


@pytest.mark.parametrize("by", ["2 by units", "2 by rows", "64 by rows"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_shares_that_do_not_fit_a_plan_are_left(by: str, precision: str, tmp_path: Path) -> None:
    """The same losses as without them, to within rounding: no row is lost or counted twice."""
    shares = {"16": by, "8": by}
    settings = {"threads": 64, "precision": precision}
    path = crafted(tmp_path, lambda d: d["choices"].update(shares=shares), **settings)
    trainer = Trainer.load(path)
    trainer.fit(X, Y, 3, 16, callbacks=[EarlyStopping("loss")], resume=True)
    plain = Trainer(trainer.network, backend="numba", device="cpu", precision=precision)
    plain.fit(X, Y, 3, 16, callbacks=[EarlyStopping("loss")])
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    np.testing.assert_allclose(
        trainer.history.column("loss"), plain.history.column("loss"), rtol=tolerance
    )


def test_a_state_of_a_callback_that_is_none_is_said(tmp_path: Path) -> None:
    for values in ({}, {"value": "a"}, {"value": 1.0, "epoch": 1, "wait": -1, "stopped_epoch": 0}):
        path = crafted(tmp_path, lambda d, v=values: d["callbacks"].update(
            {"early_stopping:loss": v}))  # fmt: skip
        with pytest.raises(CheckpointError, match="the state of callback 'early_stopping:loss'"):
            Trainer.load(path).fit(X, Y, 3, 16, callbacks=[EarlyStopping("loss")], resume=True)
