"""Forward, backward, update and step of a network family, on every backend that is here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from family import family
from gpubp import devices
from gpubp.bench import limits, race, run
from gpubp.bench.cases import Case
from gpubp.bench.contenders import ENTRIES, Entry
from gpubp.bench.phases import PHASES
from gpubp.bench.processes import Pool
from replay import replay

_ROUNDS, _QUICK_ROUNDS, _SECONDS = 7, 3, 0.05

Rows = dict[str, dict[str, Any]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "timed" in metafunc.fixturenames:
        places = ["cpu"] if devices.cuda_problem() else ["cpu", "cuda"]
        whole = metafunc.config.getoption("--all")
        pairs = [
            (case, entry)
            for place in places
            for case in family(place, whole=whole)
            for entry in ENTRIES
            if entry.role == "ours" and entry.threads is None and entry.suits(case)
        ]
        ids = [f"{c.name}-{c.precision}-{c.device}-{e.name}".replace(" ", "_") for c, e in pairs]
        metafunc.parametrize("timed", pairs, ids=ids, indirect=True, scope="module")


@pytest.fixture(scope="module")
def timed(
    request: pytest.FixtureRequest,
    quick: bool,
    pool: Pool,
    roofs: Callable[[Case], list[dict[str, Any]]],
) -> tuple[Case, Entry, Rows]:
    """Return the rows of a document by phase."""
    case, entry = request.param
    here = roofs(case)
    plan = race.Plan(_QUICK_ROUNDS if quick else _ROUNDS, _SECONDS, phases=True)
    (result,) = race.race(case, [entry], plan, pool).values()
    if result.failure:
        pytest.fail(result.failure, pytrace=False)
    worker = pool.worker(entry.factory, entry.name, case.device, case.precision)
    rows = run.rows_of(case, result, worker.call("costs"), here)
    return case, entry, {row["phase"]: row for row in rows}


@pytest.mark.benchmark(timer=replay)
@pytest.mark.parametrize("phase", [*PHASES, "step"])
def test_phase(benchmark: Any, timed: tuple[Case, Entry, Rows], phase: str) -> None:
    case, entry, rows = timed
    row = rows[phase]
    benchmark.group = f"{phase} {case.name} {case.precision} {case.device}"
    benchmark.extra_info |= {
        "contender": entry.name, "role": "ours", "default": not entry.setting, "suite": "phases",
        **{key: row[key] for key in ("flops", "bytes", "utilisation", "bound", "correct")},
    }  # fmt: skip
    replay.into(benchmark, row["samples"])
    assert row["correct"]["ok"]
    limits.check([row])
