"""A whole run: roofs, every case with everybody's turns, and the document of the result.

The document is JSON of the form :data:`FORMAT`; README.md of the repository's ``bench/`` describes
it. Nothing of it is computed later: whoever shows it reads it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpubp import devices
from gpubp.bench import advice, environment, limits, race, statistics
from gpubp.bench.cases import Case, steps_of_epoch
from gpubp.bench.contenders import ENTRIES, OURS, PEERS, Entry
from gpubp.bench.phases import PHASES
from gpubp.bench.processes import Pool, Worker, WorkerError

FORMAT = "gpubp-bench/1"

Document = dict[str, Any]
Network = tuple[tuple[int, ...], str]  # sizes and activation
Missing = dict[tuple[str, str], list[str]]  # contender and reason; names of cases, if not all

BUDGET, QUICK_BUDGET = 120.0, 15.0  # seconds

_OURS = next(entry for entry in ENTRIES if entry.name == OURS)
_ROOF_ROUNDS, _QUICK_ROOF_ROUNDS = 3, 1
_START, _PEER_START, _COMPILATION = 0.5, 1.5, 8.0  # seconds


@dataclass(frozen=True)
class Settings:
    """What is run.

    Args:
        networks: sizes and activation of each.
        batches: sizes of the minibatch.
        precisions: of each device those that it has.
        devices: "cpu", "cuda", ...
        peers: of :data:`PEERS`.
        sparse: whether peers, and other settings of gpubp, are timed at the middle size of the
            minibatch alone, and spare ones not at all.
        quick: fewer rounds, shorter turns, and of each contender the usual setting alone.
        budget: seconds that the run may take from the moment that the kernels are there, which
            compile for up to a minute at the first run on a machine. Divided over the cases:
            rounds become fewer, and contenders that there is no time for are left out. What is
            timed has a least number of rounds none the less.
    """

    networks: Sequence[Network]
    batches: Sequence[int]
    precisions: Sequence[str] = ("fp32",)
    devices: Sequence[str] = ("cpu",)
    peers: Sequence[str] = PEERS
    sparse: bool = True
    quick: bool = False
    budget: float = BUDGET

    def plan(self, deadline: float = math.inf) -> race.Plan:
        """Return what is timed of each contender, and for how long."""
        # Five samples and five are the fewest that a Mann-Whitney test can tell apart at 1 %.
        if self.quick:
            return race.Plan(5, 0.1, 0.05, epoch=0.05, phases=0.1, least=5, deadline=deadline)
        return race.Plan(21, 0.3, 0.1, epoch=0.1, phases=0.3, least=5, deadline=deadline)

    def weight(self, case: Case) -> float:
        """Return about how long the fewest rounds of a case take, in seconds."""
        plan = self.plan()
        return sum(
            plan.least * plan.turn(entry) + _start(entry)
            for entry in self.entries(case)
            if not entry.missing
        )

    def cases(self) -> Iterator[Case]:
        """Yield all cases: by device and precision, then by network and minibatch."""
        for device in self.devices:
            choice = devices.resolve(device)
            for precision in self.precisions:
                if devices.has_precision(choice, precision):
                    for sizes, activation in self.networks:
                        for batch in self.batches:
                            steps = steps_of_epoch(sizes, batch)
                            yield Case(sizes, batch, steps, activation, precision, choice.device)

    def entries(self, case: Case) -> list[Entry]:
        """Return who is timed on a case: gpubp always, others where they are asked for."""
        if self.sparse and case.batch != self._middle:
            return [entry for entry in ENTRIES if entry.name == OURS]
        return [
            entry
            for entry in ENTRIES
            if entry.suits(case)
            and (entry.role != "peer" or entry.peer in self.peers)
            and not (self.quick and (entry.setting or entry.compiler))
            and not (self.sparse and entry.spare)
        ]

    @property
    def _middle(self) -> int:
        return sorted(self.batches)[(len(self.batches) - 1) // 2]


def run(settings: Settings, say: Callable[[str], None] = lambda text: None) -> Document:
    """Run everything; ``say`` is told what comes next.

    Raises:
        InputError: a setting can't be used.
        DeviceError: a device can't be had.
        WorkerError: gpubp itself failed.
    """
    cases = list(settings.cases())
    load = environment.load()
    document: Document = {
        "format": FORMAT, "quick": settings.quick, "environment": {}, "roofs": [], "rows": [],
        "breakdown": [], "memory": [], "recommendations": [], "missing": [],
    }  # fmt: skip
    missing: Missing = {}
    with Pool() as pool:
        _compile(cases, pool, say)
        begun = time.monotonic()
        end = begun + settings.budget
        for place in dict.fromkeys((case.device, case.precision) for case in cases):
            say(f"roofs of {place[0]} in {place[1]}")
            case = next(case for case in cases if (case.device, case.precision) == place)
            rounds = _QUICK_ROOF_ROUNDS if settings.quick else _ROOF_ROUNDS
            _merge_roofs(document, roofs_of(case, rounds))
        for number, case in enumerate(cases):
            say(f"{case.name}, {case.precision} on {case.device}")
            left = [settings.weight(other) for other in cases[number:]]
            now = time.monotonic()
            plan = settings.plan(now + max(0.0, end - now) * left[0] / sum(left))
            results = race.race(case, settings.entries(case), plan, pool)
            _note_missing(missing, case, results)
            _add_case(document, case, results, pool)
        taken = time.monotonic() - begun
    document["budget"] = {"seconds": settings.budget, "taken": round(taken, 1)}
    document["missing"] = [
        {"contender": name, "why": why + (f" ({', '.join(cases)})" if cases else "")}
        for (name, why), cases in missing.items()
    ]
    document["environment"] = environment.of_run([load, environment.load()])
    document["recommendations"] = advice.recommend(document)
    return document


def _compile(cases: Sequence[Case], pool: Pool, say: Callable[[str], None]) -> None:
    """Have gpubp compile all kernels that the cases need, or load them from its cache."""
    say("kernels, which the first run on a machine compiles")
    alike = {(case.device, case.precision, case.activation): case for case in cases}
    for case in alike.values():
        worker = pool.worker(_OURS.factory, OURS, case.device, case.precision)
        worker.make(replace(case, steps=1), threads=None)
        worker.call("train", 1, True)


def roofs_of(case: Case, rounds: int = _ROOF_ROUNDS, **options: Any) -> list[Document]:
    """Measure the roofs of a case's device and precision, in a process of their own.

    ``options`` are those of roofs.py.
    """
    kind = "Roofs" if case.device == "cpu" else "CudaRoofs"
    with Worker(f"gpubp.bench.roofs:{kind}") as worker:
        worker.make(case, rounds=rounds, **options)
        found: list[Document] = worker.call("all")
    return found


def _start(entry: Entry) -> float:
    """Return the seconds until a contender is ready, about."""
    return _COMPILATION if entry.compiler else _START if entry.role == "ours" else _PEER_START


def _merge_roofs(document: Document, found: Sequence[Document]) -> None:
    """Add roofs. Of a device copies and calls are measured for each precision: the best count."""
    for roof in found:
        same = [known for known in document["roofs"] if _what(known) == _what(roof)]
        if not same:
            document["roofs"].append(roof)
        elif (roof["value"] < same[0]["value"]) == (roof["kind"] == "call"):
            same[0]["value"] = roof["value"]


def _what(roof: Document) -> Document:
    return {key: value for key, value in roof.items() if key != "value"}


def _note_missing(missing: Missing, case: Case, results: Mapping[str, race.Result]) -> None:
    """Note who could not take part in a case, and why."""
    for name, result in results.items():
        if result.missing:
            cases = missing.setdefault((name, result.missing), [])
            if result.missing == race.NO_TIME:
                cases.append(case.name)
        elif result.failure:
            why = result.failure.strip().splitlines()[-1]
            missing.setdefault((name, why), []).append(case.name)


def _add_case(
    document: Document, case: Case, results: Mapping[str, race.Result], pool: Pool
) -> None:
    """Add what is known of a case after its race."""
    ours = results[OURS]
    if ours.failure:
        raise WorkerError(ours.failure)
    worker = pool.worker(_OURS.factory, OURS, case.device, case.precision)
    costs = worker.call("costs")
    where = {"network": case.network, "batch_size": case.batch, "device": case.device}
    for result in results.values():
        document["rows"] += rows_of(case, result, costs, document["roofs"])
    document["breakdown"].append(
        {**where, "precision": case.precision, "calls": worker.call("breakdown")}
    )
    document["memory"].append(
        {**where, "precision": case.precision, "bytes": worker.call("memory")}
    )


def costs_of(case: Case, pool: Pool) -> Document:
    """Return the operations and bytes of gpubp's plan for a case, as phases.py counts them."""
    worker = pool.worker(_OURS.factory, OURS, case.device, case.precision)
    worker.make(case, threads=None)
    found: Document = worker.call("costs")
    return found


def rows_of(
    case: Case, result: race.Result, costs: Document, roofs: Sequence[Document]
) -> Iterator[Document]:
    """Yield the rows of a contender; ``costs`` are those of gpubp's plan."""
    correct = race.correctness(case, result)
    for phase in (*PHASES, "step", "epoch"):
        if phase not in result.samples:
            continue
        cost = dict(costs.get(phase) or dict.fromkeys(("flops", "bytes", "calls")))
        if result.entry.role != "ours":  # others have the same operations, but their own passes
            cost |= {"bytes": None, "calls": None}
        samples = result.samples[phase]
        if result.entry.role == "floor":
            samples = limits.floor(roofs, case.device, samples, costs)
        median = statistics.median(samples)
        limit = limits.limit(roofs, case.device, case.precision, cost, costs["set"])
        yield {
            "network": case.network, "parameters": case.parameters, "batch_size": case.batch,
            "precision": case.precision, "device": case.device, "contender": result.entry.name,
            "phase": phase, "rows": case.rows if phase == "epoch" else case.batch,
            "samples": samples, "median": median.value,
            "interval": [median.low, median.high], "flops": cost["flops"], "bytes": cost["bytes"],
            "utilisation": limit.seconds / median.value if limit and median.value else None,
            "bound": limit.bound if limit else None, "correct": correct,
        }  # fmt: skip
