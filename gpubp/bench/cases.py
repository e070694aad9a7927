"""What is timed: a network, a minibatch, a precision, and what all are given to train on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gpubp.bench import tables
from gpubp.errors import InputError, unknown_name

LEARNING_RATE = 1e-3
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
ACTIVATIONS = ("relu", "tanh", "sigmoid")

# An epoch is so much work at most, and so many steps; a few steps it always has.
_EPOCH_FLOPS = 3e9
_MOST_STEPS, _LEAST_STEPS = 128, 4

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
class Case:
    """A perceptron with softmax cross-entropy and Adam, on normal data with random labels.

    Args:
        sizes: features, hidden units, classes.
        batch: rows of a minibatch.
        steps: steps of an epoch.
        activation: of the hidden units, one of :data:`ACTIVATIONS`.
        precision: "fp32", "fp64", "tf32" or "bf16".
        device: "cpu", "cuda" or "cuda:1".
        source: of the rows: "random", or a name of tables.py.
        seed: of the first weights.
    """

    sizes: tuple[int, ...]
    batch: int
    steps: int
    activation: str = "relu"
    precision: str = "fp32"
    device: str = "cpu"
    source: str = "random"
    seed: int = 2

    @property
    def network(self) -> str:
        """Such as ``784-256-10``, with the activation where it is not ReLU."""
        sizes = "-".join(map(str, self.sizes))
        return sizes if self.activation == "relu" else f"{sizes} {self.activation}"

    @property
    def name(self) -> str:
        """Such as ``784-256-10@128``."""
        return f"{self.network}@{self.batch}"

    @property
    def rows(self) -> int:
        """The number of rows of the data."""
        return self.batch * self.steps

    @property
    def parameters(self) -> int:
        """The number of weights and biases."""
        return sum((i + 1) * o for i, o in pairwise(self.sizes))

    @property
    def bytes(self) -> int:
        """The memory that it takes at the least: data, activations, parameters and Adam's state."""
        data = (self.rows + self.rows // 4) * self.sizes[0]
        return 4 * (data + 2 * self.batch * sum(self.sizes) + 5 * self.parameters)

    def data(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return X (N, I), normal, and labels (N,), random: never zeros, which multiply faster."""
        if self.source != "random":
            (x, y), _ = tables.rows(self.source)
            return x[: self.rows], y[: self.rows]
        return self._drawn(self.rows, 1)

    def held_out(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return further rows, a quarter as many, to be evaluated after an epoch."""
        if self.source != "random":
            return tables.rows(self.source)[1]
        return self._drawn(max(1, self.rows // 4), 3)

    def layers(self) -> list[Layer]:
        """Return the first weights, normal of variance 2 / I, and biases of 0."""
        random = np.random.default_rng(self.seed)
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

    def _drawn(self, rows: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        random = np.random.default_rng(seed)
        x = random.standard_normal((rows, self.sizes[0]), dtype=np.float32)
        return x, random.integers(0, self.sizes[-1], rows)


def steps_of_epoch(sizes: tuple[int, ...], batch: int) -> int:
    """Return how many steps an epoch should have to be timed well without taking long."""
    flops = 6 * batch * sum(i * o for i, o in pairwise(sizes))
    return max(_LEAST_STEPS, min(_MOST_STEPS, int(_EPOCH_FLOPS / flops)))


def parse_network(text: str) -> tuple[tuple[int, ...], str]:
    """Return the sizes and the activation of ``784-256-10`` or ``784-256-10:tanh``.

    Raises:
        InputError: it is no such text.
    """
    numbers, _, activation = text.partition(":")
    parts = numbers.split("-")
    if len(parts) < 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise InputError(
            f"network {text!r} is not understood; write features, hidden units and classes, "
            "such as 784-256-10"
        )
    activation = activation or "relu"
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    return tuple(map(int, parts)), activation
