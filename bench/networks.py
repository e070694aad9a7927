"""The networks that are timed, and what all are given: rows, labels and first weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

LEARNING_RATE = 1e-3
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]  # weight (I, O), bias (O,)


@dataclass(frozen=True)
class Product:
    """A matrix product op(a) op(b) of a step: (rows, inner) times (inner, columns)."""

    rows: int
    inner: int
    columns: int
    transpose_a: bool
    transpose_b: bool


@dataclass(frozen=True)
class Network:
    """A perceptron with ReLU, softmax cross-entropy and Adam.

    Args:
        sizes: features, hidden units, classes.
        batch: rows of a minibatch.
        steps: steps of an epoch.
        epochs: epochs of a turn: long enough to be timed well.
        rounds: turns of each contender.
        target: what gpubp's time may be of the best peer's.
    """

    sizes: tuple[int, ...]
    batch: int
    steps: int
    epochs: int
    rounds: int
    target: float

    @property
    def name(self) -> str:
        """Such as ``784-256-128-10@128``."""
        return "-".join(map(str, self.sizes)) + f"@{self.batch}"

    @property
    def rows(self) -> int:
        """The number of rows of the data."""
        return self.batch * self.steps

    @property
    def parameters(self) -> int:
        """The number of weights and biases."""
        return sum((i + 1) * o for i, o in pairwise(self.sizes))

    def data(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return X (N, I), normal, and labels (N,), random: never zeros, which multiply faster."""
        random = np.random.default_rng(1)
        x = random.standard_normal((self.rows, self.sizes[0]), dtype=np.float32)
        return x, random.integers(0, self.sizes[-1], self.rows)

    def layers(self) -> list[Layer]:
        """Return the first weights, normal of variance 2 / I, and biases of 0."""
        random = np.random.default_rng(2)
        return [
            (
                random.standard_normal((i, o), dtype=np.float32) * np.float32((2 / i) ** 0.5),
                np.zeros(o, np.float32),
            )
            for i, o in pairwise(self.sizes)
        ]

    def products(self, batch: int) -> Iterator[Product]:
        """Yield the matrix products of a step of ``batch`` rows: z, dW, and da but for the data."""
        for layer, (i, o) in enumerate(pairwise(self.sizes)):
            yield Product(batch, i, o, False, False)
            yield Product(i, batch, o, True, False)
            if layer > 0:
                yield Product(batch, o, i, False, True)


NETWORKS = (
    Network((32, 64, 64, 2), batch=64, steps=256, epochs=4, rounds=11, target=0.9),
    Network((64, 128, 10), batch=32, steps=512, epochs=2, rounds=11, target=0.9),
    Network((784, 256, 128, 10), batch=128, steps=64, epochs=2, rounds=11, target=1.1),
    Network((1024, 2048, 2048, 10), batch=512, steps=4, epochs=1, rounds=9, target=1.2),
)
