"""What the suites have in common: devices, a race with its roofs, and what is said of a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from gpubp import devices
from gpubp.bench import limits, race, run
from gpubp.bench.cases import Case
from gpubp.bench.contenders import ENTRIES, Entry
from gpubp.bench.processes import Pool
from replay import replay

Row = dict[str, Any]
RoofsOf = Callable[..., list[Row]]  # see conftest.py


@dataclass(frozen=True)
class Timed:
    """What a race found out about a contender: its rows, as in a document, by phase."""

    result: race.Result
    rows: dict[str, Row]


def places() -> list[str]:
    """Return the devices that are here."""
    return ["cpu"] if devices.cuda_problem() else ["cpu", "cuda"]


def entries(case: Case, *roles: str) -> list[Entry]:
    """Return who of these roles can be timed on a case, installed or not."""
    return [entry for entry in ENTRIES if entry.role in roles and entry.suits(case)]


def timed(
    case: Case, chosen: Iterable[Entry], plan: race.Plan, pool: Pool, roofs: RoofsOf
) -> dict[str, Timed]:
    """Race a case; by name of contender."""
    here = roofs(case)
    results = race.race(case, chosen, plan, pool)
    costs = run.costs_of(case, pool)
    return {
        name: Timed(result, {r["phase"]: r for r in run.rows_of(case, result, costs, here)})
        for name, result in results.items()
    }


def record(benchmark: Any, timed: Timed, phase: str, **more: Any) -> None:
    """Hand times to pytest-benchmark with what was found beside them, which must be right."""
    result, entry = timed.result, timed.result.entry
    if result.missing:
        pytest.skip(result.missing)
    if result.failure:
        pytest.fail(result.failure, pytrace=False)
    row = timed.rows[phase]
    benchmark.extra_info |= {
        "contender": entry.name, "role": entry.role, "default": not entry.setting,
        "loss": result.losses[1],
        **{key: row[key] for key in ("flops", "bytes", "utilisation", "bound", "correct")}, **more,
    }  # fmt: skip
    replay.into(benchmark, row["samples"])
    assert row["correct"] is None or row["correct"]["ok"]
    limits.check([row])
