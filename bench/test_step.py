"""Time of a training step, shuffled minibatches and all: gpubp, its peers and the floor."""

from __future__ import annotations

from typing import Any

import pytest

from gpubp.bench import race
from gpubp.bench.contenders import ENTRIES, Entry
from gpubp.bench.processes import Pool
from networks import RACED, Raced
from replay import replay

_QUICK_ROUNDS = 3
_SECONDS = 0.15  # of a turn

Finished = tuple[Raced, dict[str, race.Result]]


@pytest.fixture(scope="module", params=RACED, ids=lambda raced: raced.case.name)
def finished(request: pytest.FixtureRequest, quick: bool) -> Finished:
    raced: Raced = request.param
    cases = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    chosen = [case["entry"] for case in cases if case.get("finished") is raced]
    plan = race.Plan(_QUICK_ROUNDS if quick else raced.rounds, _SECONDS)
    with Pool() as pool:
        return raced, race.race(raced.case, chosen, plan, pool)


@pytest.mark.benchmark(timer=replay)
@pytest.mark.parametrize("entry", [e for e in ENTRIES if "cpu" in e.devices], ids=lambda e: e.name)
def test_step(benchmark: Any, finished: Finished, entry: Entry) -> None:
    raced, results = finished
    result = results[entry.name]
    if result.missing:
        pytest.skip(result.missing)
    if result.failure:
        pytest.fail(result.failure, pytrace=False)
    correct = race.correctness(raced.case, result)
    benchmark.group = f"step {raced.case.name}"
    benchmark.extra_info |= {
        "contender": entry.name, "role": entry.role, "default": not entry.setting,
        "target": raced.target, "loss": result.losses[1], "correct": correct,
    }  # fmt: skip
    replay.into(benchmark, result.samples["step"])
    assert correct is None or correct["ok"]
