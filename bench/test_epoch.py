"""Time of an epoch with its data, shuffling and validation: gpubp and its peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

import suites
from gpubp.bench import race
from gpubp.bench.cases import Case
from gpubp.bench.contenders import Entry
from gpubp.bench.processes import Pool

_ROUNDS, _QUICK_ROUNDS = 9, 3
_SECONDS, _EPOCH_SECONDS = 0.1, 0.3  # of a turn: steps alone, and epochs

CASES = (Case((64, 128, 10), batch=32, steps=512), Case((784, 256, 128, 10), batch=128, steps=64))

Finished = Callable[[Case], dict[str, suites.Timed]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    cases = [replace(case, device=place) for place in suites.places() for case in CASES]
    pairs = [(case, entry) for case in cases for entry in suites.entries(case, "ours", "peer")]
    ids = [f"{case.name}-{case.device}-{entry.name}" for case, entry in pairs]
    metafunc.parametrize(("case", "entry"), pairs, ids=ids)


@pytest.fixture(scope="module")
def finished(quick: bool, pool: Pool, roofs: suites.RoofsOf) -> Finished:
    """Return a function that races a case, once."""
    plan = race.Plan(_QUICK_ROUNDS if quick else _ROUNDS, _SECONDS, epoch=_EPOCH_SECONDS)

    @cache
    def finished(case: Case) -> dict[str, suites.Timed]:
        return suites.timed(case, suites.entries(case, "ours", "peer"), plan, pool, roofs)

    return finished


@pytest.mark.benchmark(timer=suites.replay)
def test_epoch(benchmark: Any, finished: Finished, case: Case, entry: Entry) -> None:
    benchmark.group = f"epoch {case.name} {case.device}, {case.rows:,} rows, and validation"
    suites.record(benchmark, finished(case)[entry.name], "epoch")
