"""Time of an epoch with its data, shuffling and validation: gpubp and its peers."""

from __future__ import annotations

from typing import Any

import pytest

from gpubp.bench import race
from gpubp.bench.cases import Case
from gpubp.bench.contenders import ENTRIES, Entry
from gpubp.bench.processes import Pool
from replay import replay

_ROUNDS, _QUICK_ROUNDS, _SECONDS = 9, 3, 0.05

CASES = (Case((64, 128, 10), batch=32, steps=512), Case((784, 256, 128, 10), batch=128, steps=64))

_ENTRIES = [e for e in ENTRIES if "cpu" in e.devices and e.role != "floor"]

Finished = tuple[Case, dict[str, race.Result]]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def finished(request: pytest.FixtureRequest, quick: bool, pool: Pool) -> Finished:
    case: Case = request.param
    plan = race.Plan(_QUICK_ROUNDS if quick else _ROUNDS, _SECONDS, epoch=True)
    return case, race.race(case, _ENTRIES, plan, pool)


@pytest.mark.benchmark(timer=replay)
@pytest.mark.parametrize("entry", _ENTRIES, ids=lambda entry: entry.name)
def test_epoch(benchmark: Any, finished: Finished, entry: Entry) -> None:
    case, results = finished
    result = results[entry.name]
    if result.missing:
        pytest.skip(result.missing)
    if result.failure:
        pytest.fail(result.failure, pytrace=False)
    correct = race.correctness(case, result)
    benchmark.group = f"epoch {case.name}, {case.rows:,} rows, and validation"
    benchmark.extra_info |= {
        "contender": entry.name, "role": entry.role, "default": not entry.setting,
        "correct": correct,
    }  # fmt: skip
    replay.into(benchmark, result.samples["epoch"])
    assert correct is None or correct["ok"]
