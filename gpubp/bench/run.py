"""A whole run: roofs, every case with everybody's turns, and the document of the result.

The document is JSON of the form :data:`FORMAT`; README.md of the repository's ``bench/`` describes
it. Nothing of it is computed later: whoever shows it reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
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

_ROOF_ROUNDS = 3


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
            minibatch alone.
        quick: fewer rounds, shorter turns, and of each contender the usual setting alone.
    """

    networks: Sequence[Network]
    batches: Sequence[int]
    precisions: Sequence[str] = ("fp32",)
    devices: Sequence[str] = ("cpu",)
    peers: Sequence[str] = PEERS
    sparse: bool = True
    quick: bool = False

    @property
    def plan(self) -> race.Plan:
        """What is timed of each contender, and for how long."""
        rounds, seconds = (5, 0.03) if self.quick else (11, 0.1)
        return race.Plan(rounds, seconds, phases=True, epoch=True)

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
            and (entry.role == "ours" or entry.peer in self.peers)
            and not (self.quick and (entry.setting or entry.compiler))
            # Compiled twice, it would take as long as all the others.
            and not (entry.compiler and entry.setting and self.sparse)
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
    missing: dict[str, str] = {}
    with Pool() as pool:
        for _, alike in groupby(cases, key=lambda case: (case.device, case.precision)):
            group = list(alike)
            say(f"roofs of {group[0].device} in {group[0].precision}")
            _merge_roofs(document, roofs_of(group[0]))
            for case in group:
                say(f"{case.name}, {case.precision} on {case.device}")
                missing |= _add_case(document, case, settings, pool)
    document["missing"] = [{"contender": name, "why": why} for name, why in missing.items()]
    document["environment"] = environment.of_run([load, environment.load()])
    document["recommendations"] = advice.recommend(document)
    return document


def roofs_of(case: Case) -> list[Document]:
    """Measure the roofs of a case's device and precision, in a process of their own."""
    kind = "Roofs" if case.device == "cpu" else "CudaRoofs"
    with Worker(f"gpubp.bench.roofs:{kind}") as worker:
        worker.make(case, rounds=_ROOF_ROUNDS)
        found: list[Document] = worker.call("all")
    return found


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


def _add_case(document: Document, case: Case, settings: Settings, pool: Pool) -> dict[str, str]:
    """Race a case and add what is known then; return who could not take part, and why."""
    results = race.race(case, settings.entries(case), settings.plan, pool)
    ours = results[OURS]
    if ours.failure:
        raise WorkerError(ours.failure)
    worker = pool.worker(ours.entry.factory, OURS, case.device, case.precision)
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
    return {
        name: result.missing or result.failure.strip().splitlines()[-1]
        for name, result in results.items()
        if result.missing or result.failure
    }


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
        median = statistics.median(samples)
        limit = limits.limit(roofs, case.device, case.precision, cost, costs["set"])
        yield {
            "network": case.network, "parameters": case.parameters, "batch_size": case.batch,
            "precision": case.precision, "device": case.device, "contender": result.entry.name,
            "phase": phase, "samples": samples, "median": median.value,
            "interval": [median.low, median.high], "flops": cost["flops"], "bytes": cost["bytes"],
            "utilisation": limit.seconds / median.value if limit and median.value else None,
            "bound": limit.bound if limit else None, "correct": correct,
        }  # fmt: skip
