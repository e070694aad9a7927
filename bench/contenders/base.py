"""What a contender can do."""

from __future__ import annotations

from abc import ABC, abstractmethod

from networks import Network


class Contender(ABC):
    """A network with its data in one library, made with the weights that everybody starts from."""

    def __init__(self, network: Network, threads: int | None) -> None:
        self.network = network
        self.threads = threads

    @abstractmethod
    def train(self, epochs: int, shuffle: bool) -> float:
        """Train; return the seconds it took. Without ``shuffle`` the rows come as they are."""

    @abstractmethod
    def loss(self) -> float | None:
        """Return the mean loss over all rows; None where it can't be compared."""
