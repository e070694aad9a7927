"""Who was how fast at what: the rows of one task, device and phase, and how they compare."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gpubp.bench import statistics
from gpubp.bench.contenders import OURS
from gpubp.bench.report.result import Result, Row, Task

_EVEN = 1.1  # an interval around 1 that goes beyond says that too little is known


@dataclass(frozen=True)
class Standing:
    """The contenders of one task, device and phase, the fastest first."""

    task: Task
    device: str
    phase: str
    rows: tuple[Row, ...]

    @property
    def ours(self) -> Row | None:
        """Return gpubp as its users get it, or its fastest setting if that was not timed."""
        default = next((row for row in self.rows if row.contender == OURS), None)
        return default or self._fastest(lambda row: row.ours)

    @property
    def peer(self) -> Row | None:
        """The fastest setting of the fastest other library."""
        return self._fastest(lambda row: row.peer)

    @property
    def floor(self) -> Row | None:
        """The shortest time that the matrix products alone took."""
        return self._fastest(lambda row: row.floor)

    def _fastest(self, wanted: Callable[[Row], bool]) -> Row | None:
        return next(filter(wanted, self.rows), None)


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians; its interval of 95 % where the samples allow one."""

    value: float
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """Say in a word what the first of the two is, as far as the samples tell."""
        if self.interval is None:
            return "one sample"
        low, high = self.interval
        if high < 1 or low > 1:
            return "faster" if high < 1 else "slower"
        return "even" if high < _EVEN and low > 1 / _EVEN else "unclear"


def standings(result: Result, phases: Iterable[str]) -> list[Standing]:
    """Return the standings of these phases, in the order of the document."""
    groups: dict[tuple[Task, str, str], list[Row]] = {}
    for row in result.rows:
        if row.phase in set(phases):
            groups.setdefault((row.task, row.device, row.phase), []).append(row)
    return [
        Standing(*key, tuple(sorted(lowest_floors(rows), key=lambda row: row.median)))
        for key, rows in groups.items()
    ]


def lowest_floors(rows: Iterable[Row]) -> list[Row]:
    """Return rows without the floors that another one is below: of several ways one is the floor.

    It stays where it is among the others.
    """
    known = list(rows)
    lowest: dict[object, Row] = {}
    for row in known:
        place = row.task, row.device, row.phase
        if row.floor and (place not in lowest or row.median < lowest[place].median):
            lowest[place] = row
    return [row for row in known if not row.floor or row in lowest.values()]


def compare(row: Row, other: Row) -> Ratio:
    """Return the ratio of two medians of one run.

    Rounds are drawn in pairs where both have them all: contenders take turns.
    """
    value = row.median / other.median
    if row is other or min(len(row.samples), len(other.samples)) < 2:
        return Ratio(value, None)
    paired = len(row.samples) == len(other.samples)
    estimate = statistics.ratio(row.samples, other.samples, paired=paired)
    return Ratio(value, (estimate.low, estimate.high))
