"""A result document, read: checked at the door, typed from then on.

What may be missing in a document is optional here, so that the pages of a machine without a GPU, of
a run without peers and of a run that was cut short are made from the same code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from gpubp.bench.run import FORMAT
from gpubp.errors import InputError

Record = Mapping[str, Any]
_Part = TypeVar("_Part")


@dataclass(frozen=True)
class Correct:
    """What was compared with an oracle beside the timing, and how far it was off."""

    what: str
    error: float | None
    tolerance: float | None
    ok: bool


@dataclass(frozen=True)
class Task:
    """What is trained, and how: rows of one task can be compared with each other."""

    network: str
    batch_size: int
    precision: str


@dataclass(frozen=True)
class Row:
    """The times that a contender took for a phase of a task on a device; its index."""

    index: int
    task: Task
    device: str
    contender: str
    phase: str
    rows: int | None  # that it computes on, where the document says so
    parameters: int | None
    samples: tuple[float, ...]
    median: float
    interval: tuple[float, float] | None
    flops: float | None
    bytes: float | None
    utilisation: float | None
    bound: str | None
    correct: Correct | None

    @property
    def ours(self) -> bool:
        """Whether it is gpubp, in whatever setting."""
        return self.contender.startswith("gpubp")

    @property
    def floor(self) -> bool:
        """Whether it is no contender but what no contender can beat."""
        return self.contender.startswith("floor")

    @property
    def peer(self) -> bool:
        """Whether it is another library."""
        return not self.ours and not self.floor

    @property
    def key(self) -> tuple[Task, str, str, str]:
        """What it is the measurement of, in this run or in another."""
        return self.task, self.device, self.contender, self.phase


@dataclass(frozen=True)
class Roof:
    """What a device can do at most: ``kind`` is gemm, copy or call; a copy is of so many bytes."""

    index: int
    device: str
    kind: str
    precision: str | None
    value: float
    unit: str
    bytes: float | None


@dataclass(frozen=True)
class Call:
    """A kernel call of a step, and what it cost."""

    formula: str
    kernel: str
    seconds: float
    flops: float | None
    bytes: float | None


@dataclass(frozen=True)
class Breakdown:
    """The calls of a step, in order."""

    task: Task
    device: str
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Memory:
    """Bytes by what they are for."""

    network: str
    batch_size: int
    precision: str | None
    device: str
    bytes: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """A document; the raw one too."""

    document: Mapping[str, Any]
    environment: Record
    rows: tuple[Row, ...]
    roofs: tuple[Roof, ...]
    breakdowns: tuple[Breakdown, ...]
    memory: tuple[Memory, ...]
    recommendations: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    quick: bool
    taken: float | None  # seconds that the run took

    @property
    def devices(self) -> list[str]:
        """The devices that something was timed on, in the order of the document."""
        return list(dict.fromkeys(row.device for row in self.rows))


def read(document: Mapping[str, Any]) -> Result:
    """Return what a document says.

    Raises:
        InputError: it is no result of ``gpubp bench``, or a part of it is not as it should be.
    """
    found = document.get("format") if isinstance(document, Mapping) else None
    if found != FORMAT:
        raise InputError(
            f"the document's format is {found!r}, not {FORMAT!r}: give a result that "
            "'gpubp bench --json' wrote"
        )
    return Result(
        document=document,
        environment=document.get("environment") or {},
        rows=_each(document, "rows", _row),
        roofs=_each(document, "roofs", _roof),
        breakdowns=_each(document, "breakdown", _breakdown),
        memory=_each(document, "memory", _memory),
        recommendations=tuple(str(text) for text in document.get("recommendations") or ()),
        missing=_each(document, "missing", lambda _, r: (str(r["contender"]), str(r["why"]))),
        quick=bool(document.get("quick")),
        taken=_optional(document.get("budget") or {}, "taken"),
    )


def _each(document: Record, part: str, make: Callable[[int, Record], _Part]) -> tuple[_Part, ...]:
    made = []
    for index, record in enumerate(document.get(part) or ()):
        try:
            made.append(make(index, record))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"{part}[{index}] of the document cannot be read: {problem}; "
                "measure again with 'gpubp bench'"
            ) from error
    return tuple(made)


def _task(record: Record) -> Task:
    return Task(str(record["network"]), int(record["batch_size"]), str(record["precision"]))


def _row(index: int, record: Record) -> Row:
    correct, interval = record.get("correct"), record.get("interval")
    # A phase is a difference of two times, and may be lost in their noise.
    time = _positive if record["phase"] in ("step", "epoch") else _finite
    return Row(
        index=index,
        task=_task(record),
        device=str(record["device"]),
        contender=str(record["contender"]),
        phase=str(record["phase"]),
        rows=None if (rows := record.get("rows")) is None else int(rows),
        parameters=None if (count := record.get("parameters")) is None else int(count),
        samples=tuple(time(sample) for sample in record.get("samples") or ()),
        median=time(record["median"]),
        interval=None if interval is None else (time(interval[0]), time(interval[1])),
        flops=_optional(record, "flops"),
        bytes=_optional(record, "bytes"),
        utilisation=_optional(record, "utilisation"),
        bound=record.get("bound"),
        correct=correct and _correct(correct),
    )


def _correct(record: Record) -> Correct:
    error, tolerance = _optional(record, "error"), _optional(record, "tolerance")
    return Correct(str(record["what"]), error, tolerance, bool(record["ok"]))


def _roof(index: int, record: Record) -> Roof:
    return Roof(
        index=index,
        device=str(record["device"]),
        kind=str(record["kind"]),
        precision=record.get("precision"),
        value=_positive(record["value"]),
        unit=str(record["unit"]),
        bytes=_optional(record, "bytes"),
    )


def _breakdown(_: int, record: Record) -> Breakdown:
    calls = tuple(
        Call(
            str(call["formula"]), str(call["kernel"]), float(call["seconds"]),
            _optional(call, "flops"), _optional(call, "bytes"),
        )
        for call in record["calls"]
    )  # fmt: skip
    return Breakdown(_task(record), str(record["device"]), calls)


def _memory(_: int, record: Record) -> Memory:
    parts = {str(part): float(value) for part, value in record["bytes"].items()}
    network, size, precision = record["network"], record["batch_size"], record.get("precision")
    return Memory(str(network), int(size), precision, str(record["device"]), parts)


def _optional(record: Record, name: str) -> float | None:
    value = record.get(name)
    return None if value is None else float(value)


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number


def _positive(value: Any) -> float:
    """Return a time or a rate; the axes are logarithmic, and nothing takes no time."""
    number = _finite(value)
    if number <= 0:
        raise ValueError(f"{number} is not above 0")
    return number
