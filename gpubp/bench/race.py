"""Turns: contenders are timed one after the other, round after round, and nobody out of turn.

The speed of a machine drifts, by other load, heat and turbo clocks. Interleaved turns let the drift
hit all alike, so that ratios of medians mean something.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpubp.bench import oracle
from gpubp.bench.cases import Case
from gpubp.bench.contenders import Entry
from gpubp.bench.phases import PHASES
from gpubp.bench.processes import Pool, Worker, WorkerError

_MOST_EPOCHS = 1000  # of a turn
_LEAST_ROUNDS = 3
_PATIENCE = 8  # how many times as long as a turn should take it may take, on average


@dataclass(frozen=True)
class Plan:
    """What is timed of each contender, and for how long.

    ``seconds`` is how long a turn takes about. ``phases`` (of gpubp alone) and ``epoch`` have turns
    of their own.
    """

    rounds: int
    seconds: float
    phases: bool = False
    epoch: bool = False


@dataclass
class Result:
    """What is known of a contender after a race.

    ``missing`` says what it would need to take part, ``failure`` why it could not go on;
    ``samples`` are seconds by phase, a round each, of a step or one of its phases or of an epoch.
    """

    entry: Entry
    missing: str = ""
    failure: str = ""
    samples: dict[str, list[float]] = field(default_factory=dict)
    # At the start, and after an epoch of rows in order; None where they can't be compared.
    losses: tuple[float | None, float | None] = (None, None)


def take_turns(
    turns: Mapping[Any, Callable[[], Any]], rounds: int, patience: float = math.inf
) -> dict[Any, list[Any]]:
    """Call every function once a round; return what they returned.

    Whoever had a few rounds and took more than ``patience`` seconds for them has no further ones.
    """
    results: dict[Any, list[Any]] = {name: [] for name in turns}
    taken = dict.fromkeys(turns, 0.0)
    for number in range(rounds):
        for name, turn in turns.items():
            if number < _LEAST_ROUNDS or taken[name] < patience:
                start = time.perf_counter()
                results[name].append(turn())
                taken[name] += time.perf_counter() - start
    return results


def race(case: Case, entries: Iterable[Entry], plan: Plan, pool: Pool) -> dict[str, Result]:
    """Time a case, everybody against everybody; by name of contender."""
    results = {entry.name: Result(entry, entry.missing) for entry in entries}
    turns: dict[tuple[str, str], Callable[[], Any]] = {}
    for name, result in results.items():
        if result.missing:
            continue
        entry = result.entry
        worker = pool.worker(entry.factory, name, case.device, case.precision)
        try:
            worker.make(case, threads=entry.threads, **entry.options)
            result.losses, epoch_seconds = _warm_up(worker)
        except WorkerError as error:
            result.failure = str(error)
            continue
        turns |= _turns(worker, entry, case, plan, epoch_seconds)
    patience = _PATIENCE * plan.rounds * plan.seconds
    for (name, phase), samples in take_turns(turns, plan.rounds, patience).items():
        if phase == "phases":
            phases = {part: [sample[part] for sample in samples] for part in PHASES}
            results[name].samples |= phases
        else:
            results[name].samples[phase] = samples
    return results


def correctness(case: Case, result: Result) -> dict[str, Any] | None:
    """Return how far a contender's loss is from the float64 oracle's; None if there is none."""
    if None in result.losses:
        return None
    expected = oracle.losses(case, epsilon_first=result.entry.epsilon_first)
    errors = np.abs(np.array(result.losses, np.float64) / expected - 1)
    error, tolerance = float(errors.max()), oracle.TOLERANCES[case.precision]
    return {
        "what": "loss before and after an epoch", "tolerance": tolerance, "ok": error <= tolerance,
        "error": error if math.isfinite(error) else None,  # JSON has no NaN
    }  # fmt: skip


def _warm_up(worker: Worker) -> tuple[tuple[float | None, float | None], float]:
    """Compile, and bring caches and allocators to their usual state.

    Returns:
        the two losses, and the seconds of an epoch.
    """
    before = worker.call("loss")
    worker.call("train", 1, False)
    after = worker.call("loss")
    return (before, after), worker.call("train", 1, True)


def _turns(
    worker: Worker, entry: Entry, case: Case, plan: Plan, epoch_seconds: float
) -> dict[tuple[str, str], Callable[[], Any]]:
    """Return what a contender does in a round, by what is timed."""
    epochs = max(1, min(_MOST_EPOCHS, round(plan.seconds / epoch_seconds)))
    turns: dict[tuple[str, str], Callable[[], Any]] = {
        (entry.name, "step"): lambda: worker.call("train", epochs, True) / (epochs * case.steps)
    }
    if plan.phases and entry.role == "ours":
        worker.call("phases", plan.seconds)
        turns[entry.name, "phases"] = lambda: worker.call("phases", 3 * plan.seconds)
    if plan.epoch and entry.role != "floor":
        worker.call("epoch")
        turns[entry.name, "epoch"] = lambda: worker.call("epoch")
    return turns
