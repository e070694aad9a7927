"""Time of a training step, shuffled minibatches and all: gpubp, its peers and the floor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

import suites
from gpubp.bench import race
from gpubp.bench.contenders import Entry
from gpubp.bench.processes import Pool
from networks import RACED, Raced

_QUICK_ROUNDS = 3
_SECONDS = 0.3  # of a turn

Finished = Callable[[Raced], dict[str, suites.Timed]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    raced = [
        replace(known, case=replace(known.case, device=place))
        for place in suites.places()
        for known in RACED
    ]
    pairs = [
        (known, entry)
        for known in raced
        for entry in suites.entries(known.case, "ours", "peer", "floor")
    ]
    ids = [f"{known.case.name}-{known.case.device}-{entry.name}" for known, entry in pairs]
    metafunc.parametrize(("raced", "entry"), pairs, ids=ids)


@pytest.fixture(scope="module")
def finished(request: pytest.FixtureRequest, quick: bool, roofs: suites.RoofsOf) -> Finished:
    """Return a function that races a case, once, with those who were chosen to be timed."""
    calls = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]

    @cache
    def finished(raced: Raced) -> dict[str, suites.Timed]:
        chosen = [call["entry"] for call in calls if call.get("raced") == raced]
        plan = race.Plan(_QUICK_ROUNDS if quick else raced.rounds, _SECONDS)
        with Pool() as pool:
            return suites.timed(raced.case, chosen, plan, pool, roofs)

    return finished


@pytest.mark.benchmark(timer=suites.replay)
def test_step(benchmark: Any, finished: Finished, raced: Raced, entry: Entry) -> None:
    benchmark.group = f"step {raced.case.name} {raced.case.device}"
    suites.record(benchmark, finished(raced)[entry.name], "step", target=raced.target)
