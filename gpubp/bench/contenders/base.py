"""What a contender can do."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

from gpubp.bench.cases import Case


class Contender(ABC):
    """A network with its data in one library, made with the weights that everybody starts from.

    It is made in a process of its own, one after another for several cases.

    Args:
        case: what to train.
        threads: how many the library may use; None leaves it its default.
        options: what distinguishes this one from others of its class.
    """

    def __init__(self, case: Case, threads: int | None, **options: Any) -> None:
        self.case = case
        self.threads = threads

    @abstractmethod
    def train(self, epochs: int, shuffle: bool) -> float:
        """Train; return the seconds it took. Without ``shuffle`` the rows come as they are."""

    @abstractmethod
    def loss(self) -> float | None:
        """Return the mean loss over all rows; None where it can't be compared."""

    def evaluate(self) -> float:
        """Compute loss and accuracy of the rows that are held out; return the accuracy."""
        raise NotImplementedError

    def epoch(self) -> float:
        """Train for a shuffled epoch and evaluate the rows held out; return the seconds."""
        start = time.perf_counter()
        self.train(1, True)
        self.evaluate()
        return time.perf_counter() - start

    def reach(self, accuracy: float, most: int) -> tuple[float, int]:
        """Train until the rows held out are right so often, or for ``most`` epochs.

        Returns:
            the seconds, those of an evaluation after each epoch included, and the epochs.
        """
        start, epochs = time.perf_counter(), 0
        while epochs < most:
            self.train(1, True)
            epochs += 1
            if self.evaluate() >= accuracy:
                break
        return time.perf_counter() - start, epochs
