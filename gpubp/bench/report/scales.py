"""The logarithmic axis: where a value lies on it, and which values deserve a tick.

Times, rates and ratios are compared by factors, so every axis of the report is logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_STEPS = ((1, 2, 5), (1, 3), (1,))


@dataclass(frozen=True)
class Log:
    """Maps values from ``low`` to ``high`` onto positions from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Iterable[float], start: float, end: float, least: float = 1.25) -> Log:
        """Return the axis that shows all values, over a factor of at least ``least``."""
        known = list(values)
        low, high = min(known), max(known)
        factor = max(high / low, least)
        middle = math.sqrt(low * high)
        half = math.sqrt(factor) * factor**0.06
        return cls(middle / half, middle * half, start, end)

    def __call__(self, value: float) -> float:
        """Return the position of a value, to a tenth of a pixel."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, most: int = 6) -> list[float]:
        """Return at most ``most`` round values on the axis."""
        if self.high / self.low < 8:
            return self._even(most)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for stride in range(1, len(decades) + 1):
            for steps in _STEPS if stride == 1 else ((1,),):
                found = self._inside(s * 10.0**d for d in decades[::stride] for s in steps)
                if len(found) <= most:
                    return found
        return []

    def _even(self, most: int) -> list[float]:
        """Return evenly spaced ticks: on less than a decade they say more than powers do."""
        magnitude = 10.0 ** math.floor(math.log10(self.high - self.low) - 1)
        for factor in (1, 2, 5, 10, 20, 50, 100):
            step = magnitude * factor
            first, last = math.ceil(self.low / step), math.floor(self.high / step)
            if last - first < most:
                return [float(f"{i * step:.10g}") for i in range(first, last + 1)]
        return []

    def _inside(self, values: Iterable[float]) -> list[float]:
        return [v for v in (float(f"{v:.10g}") for v in values) if self.low <= v <= self.high]
