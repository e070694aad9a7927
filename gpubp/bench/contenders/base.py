"""What a contender can do."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

from gpubp.bench.cases import Case

_MOST_EPOCHS = 1000  # of a turn


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

    def turn(self, settle: float, seconds: float, **more: float) -> dict[str, float]:
        """Have a turn: train to settle, which does not count, and then for about ``seconds``.

        After a pause caches are cold and threads asleep, and who chooses as it goes how to go, as
        gpubp does between one thread and several, has old news to go by. So everybody trains for
        ``settle`` seconds first. How long an epoch then takes says how many make up the turn.

        Args:
            settle, seconds: at least an epoch each.
            more: seconds by what else is timed: an "epoch" with its evaluation.

        Returns:
            the seconds of a step, as "step", and of what else is timed.
        """
        epoch = self._settle(settle)
        count = _epochs(seconds, epoch)
        found = {"step": self.train(count, True) / (count * self.case.steps)}
        if "epoch" in more:
            count = _epochs(more["epoch"], epoch)
            found["epoch"] = sum(self.epoch() for _ in range(count)) / count
        return found

    def _settle(self, seconds: float) -> float:
        """Train for so long at least; return the seconds of an epoch at the end of it."""
        count, spent = 1, 0.0
        while True:
            taken = self.train(count, True)
            spent += taken
            if spent >= seconds or count > _MOST_EPOCHS:
                return taken / count
            count *= 2

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


def _epochs(seconds: float, epoch: float) -> int:
    """Return how many epochs take about so long."""
    return max(1, min(_MOST_EPOCHS, round(seconds / epoch)))
