"""Time of a training step, shuffled minibatches and all: gpubp, its peers and the floor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import suites
from gpubp.bench import race
from gpubp.bench.contenders import Entry
from gpubp.bench.processes import Pool
from networks import RACED, Raced

_QUICK_ROUNDS = 3
_SECONDS = 0.3  # of a turn

Finished = tuple[Raced, dict[str, suites.Timed]]


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
    metafunc.parametrize(("finished", "entry"), pairs, indirect=["finished"], ids=ids)


@pytest.fixture(scope="module")
def finished(request: pytest.FixtureRequest, quick: bool, roofs: suites.RoofsOf) -> Finished:
    raced: Raced = request.param
    cases = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    chosen = [case["entry"] for case in cases if case.get("finished") is raced]
    plan = race.Plan(_QUICK_ROUNDS if quick else raced.rounds, _SECONDS)
    with Pool() as pool:
        return raced, suites.timed(raced.case, chosen, plan, pool, roofs)


@pytest.mark.benchmark(timer=suites.replay)
def test_step(benchmark: Any, finished: Finished, entry: Entry) -> None:
    raced, found = finished
    benchmark.group = f"step {raced.case.name} {raced.case.device}"
    suites.record(benchmark, found[entry.name], "step", target=raced.target)
