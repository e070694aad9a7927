"""Times a case: everybody in turn, round after round, with what each computes checked first."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from gpu import cases, figures, oracle
from gpu.cases import Case, EpochCase
from gpu.contenders import OURS, Entry, entries
from gpu.process import ProcessError, Worker, plain

Record = dict[str, Any]

_PATIENCE = 200.0  # seconds for one call: longer than torch.compile should need


def race(
    case: Case, precision: str, deadline: float, *, stand_in: bool, roofs: Record | None
) -> Record:
    """Return the times of all contenders on a case, and how gpubp compares.

    A contender that fails is out of the race, with its error in the result; gpubp must not.

    Args:
        case: what is timed.
        precision: of all.
        deadline: by when it must be done.
        stand_in: compute on the CPU, on next to nothing.
        roofs: what the same device was measured to do at most, if it was.

    Raises:
        ProcessError: gpubp failed.
    """
    everybody = entries(case)
    records = {entry.name: _record(entry) for entry in everybody}
    with ExitStack() as stack:
        options = {"case": case.name, "precision": precision, "stand_in": stand_in}
        workers = {
            entry.name: stack.enter_context(
                Worker(entry.factory, deadline, **options, **entry.options)
            )
            for entry in everybody
            if "missing" not in records[entry.name]
        }
        expected = oracle.losses(case)
        _call(workers, records, "losses", deadline)
        for record in records.values():
            if "losses" in record:
                record.update(_checked(case, precision, record["losses"], expected))
        for _ in range(case.rounds):
            _call(workers, records, "turn", deadline, into="turns")
        for record in records.values():
            if "turns" in record:
                record["seconds"] = figures.summaries(record.pop("turns"))
        result = {
            "title": case.title, "precision": precision, "unit": case.unit,
            "expected_losses": expected, "contenders": records,
        }  # fmt: skip
        result |= figures.verdict(case, records)
        if not isinstance(case, EpochCase):
            result |= _inside(workers[OURS], result, precision, roofs)
    return result


def _record(entry: Entry) -> Record:
    return {"group": entry.group} | ({"missing": entry.missing} if entry.missing else {})


def _call(
    workers: dict[str, Worker],
    records: dict[str, Record],
    method: str,
    deadline: float,
    into: str = "",
) -> None:
    """Call a method of everybody; keep what it returns. Whoever fails leaves."""
    for name, worker in list(workers.items()):
        record = records[name]
        try:
            answer = worker.call(method, within=_PATIENCE)
        except ProcessError as error:
            if name == OURS or time.monotonic() > deadline:
                raise
            del workers[name]
            record.pop(into, None)
            record["error"] = plain(str(error))
            continue
        if into:
            record.setdefault(into, []).append(answer)
        else:
            record[method] = answer


def _checked(case: Case, precision: str, losses: list[float], expected: list[float]) -> Record:
    """Return how far losses are from those of float64, and whether that is rounding."""
    table = cases.AFTER_AN_EPOCH if isinstance(case, EpochCase) else cases.FIRST_STEPS
    errors = [abs(loss - right) / abs(right) for loss, right in zip(losses, expected, strict=True)]
    return {
        "loss_errors": errors,
        "loss_error_allowed": table[precision],
        "right": all(error <= table[precision] for error in errors),  # NaN is not
    }


def _inside(ours: Worker, result: Record, precision: str, roofs: Record | None) -> Record:
    """Return what a step of ours is made of; where it misses a target, also the time of each."""
    plan = ours.call("plan")
    inside: Record = {"plan": plan, "steps_a_graph": ours.call("steps_a_graph")}
    if roofs:
        inside["floor_of_this_run"] = figures.floor(plan, precision, roofs)
    if not result["met"]:
        inside["trace"] = ours.call("trace")
    return inside
