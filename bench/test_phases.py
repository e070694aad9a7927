"""Forward, backward, update and step of a network family, on every backend that is here."""

from __future__ import annotations

from typing import Any

import pytest

import suites
from family import family
from gpubp.bench import race
from gpubp.bench.cases import Case
from gpubp.bench.contenders import Entry
from gpubp.bench.phases import PHASES
from gpubp.bench.processes import Pool

_ROUNDS, _QUICK_ROUNDS, _SECONDS = 7, 3, 0.3

Found = tuple[Case, suites.Timed]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    whole = metafunc.config.getoption("--all")
    pairs = [
        (case, entry)
        for place in suites.places()
        for case in family(place, whole=whole)
        for entry in suites.entries(case, "ours")
        if entry.threads is None
    ]
    ids = [f"{c.name}-{c.precision}-{c.device}-{e.name}".replace(" ", "_") for c, e in pairs]
    metafunc.parametrize("found", pairs, ids=ids, indirect=True, scope="module")


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest, quick: bool, pool: Pool, roofs: suites.RoofsOf) -> Found:
    case: Case
    entry: Entry
    case, entry = request.param
    plan = race.Plan(_QUICK_ROUNDS if quick else _ROUNDS, _SECONDS, phases=_SECONDS)
    return case, suites.timed(case, [entry], plan, pool, roofs)[entry.name]


@pytest.mark.benchmark(timer=suites.replay)
@pytest.mark.parametrize("phase", [*PHASES, "step"])
def test_phase(benchmark: Any, found: Found, phase: str) -> None:
    case, timed = found
    benchmark.group = f"{phase} {case.name} {case.precision} {case.device}"
    suites.record(benchmark, timed, phase, suite="phases")
