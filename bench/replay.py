"""Hands times that were measured elsewhere, in other processes, to pytest-benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


class Replay:
    """A timer for ``@pytest.mark.benchmark(timer=...)`` that plays durations back."""

    __name__ = "replay"  # what pytest-benchmark writes into its JSON

    def __init__(self) -> None:
        self._moments: Iterator[float] = iter(())

    def __call__(self) -> float:
        return next(self._moments)

    def into(self, benchmark: Any, seconds: Sequence[float]) -> None:
        """Have a ``benchmark`` fixture that uses this timer record the durations as its rounds."""
        self._moments = iter([moment for duration in seconds for moment in (0.0, duration)])
        benchmark.pedantic(lambda: None, rounds=len(seconds))


replay = Replay()
