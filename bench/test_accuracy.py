"""Time to a stated accuracy on rows held out: the digits, and a generated table of 100,000 rows.

Adam at 1e-3 for all. Each round has first weights of its own, the same for all, and shuffles of its
own, so that a round is not only a repetition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import pytest

import suites
from gpubp.bench.cases import Case
from gpubp.bench.contenders import Entry
from gpubp.bench.processes import Pool, Worker
from gpubp.bench.race import take_turns

_ROUNDS, _QUICK_ROUNDS = 7, 2


@dataclass(frozen=True)
class Task:
    """What is learned, until so many of the rows held out are right."""

    case: Case
    accuracy: float
    most_epochs: int


TASKS = (
    Task(Case((64, 128, 10), 32, 44, source="digits"), accuracy=0.97, most_epochs=60),
    Task(Case((40, 128, 64, 5), 128, 625, source="table"), accuracy=0.85, most_epochs=60),
)

Finished = Callable[[Task], dict[str, list[tuple[float, int]]]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    tasks = [
        replace(task, case=replace(task.case, device=place))
        for place in suites.places()
        for task in TASKS
    ]
    pairs = [(task, entry) for task in tasks for entry in _entries(task.case)]
    ids = [f"{task.case.source}-{task.case.device}-{entry.name}" for task, entry in pairs]
    metafunc.parametrize(("task", "entry"), pairs, ids=ids)


def _entries(case: Case) -> list[Entry]:
    """Return who learns it: not torch.compile, which would have to compile for each round."""
    return [entry for entry in suites.entries(case, "ours", "peer") if not entry.compiler]


@pytest.fixture(scope="module")
def finished(quick: bool, pool: Pool) -> Finished:
    """Return a function that has a task learned, once; seconds, epochs by contender and round."""

    @cache
    def finished(task: Task) -> dict[str, list[tuple[float, int]]]:
        return _learned(task, pool, _QUICK_ROUNDS if quick else _ROUNDS)

    return finished


def _learned(task: Task, pool: Pool, rounds: int) -> dict[str, list[tuple[float, int]]]:
    present = [entry for entry in _entries(task.case) if not entry.missing]
    workers = {
        entry: pool.worker(entry.factory, entry.name, task.case.device, task.case.precision)
        for entry in present
    }
    for entry, worker in workers.items():  # kernels are loaded and memory is taken
        _reach(worker, entry, replace(task.case, seed=0), 0.0, 1)
    seeds = dict.fromkeys(present, 0)

    def turn(entry: Entry) -> tuple[float, int]:
        seeds[entry] += 1
        case = replace(task.case, seed=seeds[entry])
        return _reach(workers[entry], entry, case, task.accuracy, task.most_epochs)

    return take_turns({entry.name: partial(turn, entry) for entry in present}, rounds)


@pytest.mark.benchmark(timer=suites.replay)
def test_accuracy(benchmark: Any, finished: Finished, task: Task, entry: Entry) -> None:
    if entry.missing:
        pytest.skip(entry.missing)
    seconds, epochs = zip(*finished(task)[entry.name], strict=True)
    benchmark.group = f"time to {task.accuracy:.0%} right of {task.case.source}, {task.case.device}"
    benchmark.extra_info |= {
        "contender": entry.name, "role": entry.role, "default": not entry.setting,
        "epochs": epochs,
    }  # fmt: skip
    suites.replay.into(benchmark, seconds)
    assert max(epochs) < task.most_epochs, "the accuracy was not reached"


def _reach(
    worker: Worker, entry: Entry, case: Case, accuracy: float, most: int
) -> tuple[float, int]:
    worker.make(case, threads=entry.threads, **entry.options)
    seconds, epochs = worker.call("reach", accuracy, most)
    return float(seconds), int(epochs)
