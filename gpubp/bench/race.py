"""Turns: contenders are timed one after the other, round after round, and nobody out of turn.

The speed of a machine drifts, by other load, heat and turbo clocks. Interleaved turns let the drift
hit all alike, so that ratios of medians mean something.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from gpubp.bench import oracle
from gpubp.bench.cases import Case
from gpubp.bench.contenders import OURS, Entry
from gpubp.bench.processes import Pool, Worker, WorkerError

_LEAST_ROUNDS = 3
_PATIENCE = 8  # how many times as long as a turn should take it may take, on average
# What anybody but gpubp may take to warm up, and for a turn: so many seconds, or this share of the
# time that is left.
_GRACE, _SHARE = 5.0, 0.5

NO_TIME = "no time was left for it; a larger budget has room"


@dataclass(frozen=True)
class Plan:
    """What is timed of each contender, and for how long.

    A turn is ``settle`` seconds of training that don't count and ``seconds`` of it that do;
    ``epoch`` seconds of epochs with their evaluation; and ``phases`` seconds of the phases of a
    step, of gpubp on each backend. What has no seconds is not timed.

    Args:
        rounds: turns of each at most.
        least: turns of each at least, whatever the time.
        deadline: of ``time.monotonic()``; towards it there are fewer rounds, and contenders that
            there is no time for are left out. gpubp itself never is.
    """

    rounds: int
    seconds: float
    settle: float = 0.1
    epoch: float = 0.0
    phases: float = 0.0
    least: int = _LEAST_ROUNDS
    deadline: float = math.inf

    def more(self, entry: Entry) -> dict[str, float]:
        """Return the seconds by what is timed of a contender beside its steps."""
        epoch = self.epoch if entry.role != "floor" else 0.0
        phases = self.phases if entry.role == "ours" and entry.threads is None else 0.0
        return {name: s for name, s in (("epoch", epoch), ("phases", phases)) if s}

    def turn(self, entry: Entry) -> float:
        """Return the seconds that a turn of a contender should take."""
        return self.settle + self.seconds + sum(self.more(entry).values())

    def patience(self, entry: Entry) -> float:
        """Return the seconds that a contender may take now to warm up or for a turn."""
        if entry.name == OURS or self.deadline == math.inf:
            return math.inf
        return max(_GRACE, _SHARE * (self.deadline - time.monotonic()))


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
    turns: Mapping[Any, Callable[[], Any]],
    rounds: int,
    patience: float = math.inf,
    *,
    least: int = _LEAST_ROUNDS,
    deadline: float = math.inf,
) -> dict[Any, list[Any]]:
    """Call every function once a round; return what they returned.

    Whoever had the least number of rounds and took more than ``patience`` seconds for them has no
    further ones. After as many there is no round that would go on beyond the deadline.
    """
    results: dict[Any, list[Any]] = {name: [] for name in turns}
    taken = dict.fromkeys(turns, 0.0)
    length = 0.0  # of the last round
    for number in range(rounds):
        begun = time.monotonic()
        if number >= least and begun + length > deadline:
            break
        for name, turn in turns.items():
            if number < least or taken[name] < patience:
                start = time.perf_counter()
                results[name].append(turn())
                taken[name] += time.perf_counter() - start
        length = time.monotonic() - begun
    return results


def race(case: Case, entries: Iterable[Entry], plan: Plan, pool: Pool) -> dict[str, Result]:
    """Time a case, everybody against everybody; by name of contender."""
    results = {entry.name: Result(entry, entry.missing) for entry in entries}
    turns: dict[str, Callable[[], dict[str, float] | None]] = {}
    for result in sorted(results.values(), key=lambda result: _importance(result.entry)):
        if result.missing:
            continue
        length = sum(plan.turn(results[name].entry) for name in (*turns, result.entry.name))
        if turns and time.monotonic() + plan.least * length > plan.deadline:
            result.missing = NO_TIME
            continue
        worker = pool.worker(result.entry.factory, result.entry.name, case.device, case.precision)
        try:
            _warm_up(worker, case, result, plan)
        except WorkerError as error:
            result.failure = str(error)
            continue
        turns[result.entry.name] = partial(_turn, worker, result, plan)
    patience = _PATIENCE * plan.rounds * (plan.settle + plan.seconds + plan.epoch + plan.phases)
    found = take_turns(turns, plan.rounds, patience, least=plan.least, deadline=plan.deadline)
    for name, result in results.items():
        times = [turn for turn in found.get(name, []) if turn]
        if times and not result.failure:
            result.samples = {phase: [turn[phase] for turn in times] for phase in times[0]}
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


def _importance(entry: Entry) -> tuple[bool, ...]:
    """Return what sorts contenders: gpubp first, other settings and what takes long to start last.

    Where there is not time for all, it is these that are left out.
    """
    return entry.name != OURS, entry.compiler, bool(entry.setting)


def _warm_up(worker: Worker, case: Case, result: Result, plan: Plan) -> None:
    """Make a contender, note its losses, and have it do once what its turns consist of.

    That compiles, and brings caches and allocators to their usual state.
    """
    entry = result.entry
    end = time.monotonic() + plan.patience(entry)

    def call(method: str, *arguments: object, **named: float) -> Any:
        return worker.call(method, *arguments, within=max(0.0, end - time.monotonic()), **named)

    worker.make(case, threads=entry.threads, within=plan.patience(entry), **entry.options)
    before = call("loss")
    call("train", 1, False)
    result.losses = before, call("loss")
    call("turn", plan.settle, 0.0, **dict.fromkeys(plan.more(entry), 0.0))


def _turn(worker: Worker, result: Result, plan: Plan) -> dict[str, float] | None:
    """Return what a contender's turn brought; None of one that failed, now or before."""
    entry = result.entry
    if result.failure:
        return None
    try:
        found: dict[str, float] = worker.call(
            "turn", plan.settle, plan.seconds, within=plan.patience(entry), **plan.more(entry)
        )
    except WorkerError as error:
        result.failure = str(error)
        return None
    return found
