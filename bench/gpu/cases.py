"""The networks that are timed on a GPU, with what they should reach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

# How far a loss may be from that of float64, relative to it, after a few steps and after an epoch.
# tf32 and bf16 round what goes into a product to 11 and 8 bits.
FIRST_STEPS = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 2e-2}
AFTER_AN_EPOCH = {"fp32": 2e-3, "tf32": 1e-2, "bf16": 3e-2}

AnyCase = TypeVar("AnyCase", bound="Case")


@dataclass(frozen=True)
class Case:
    """A perceptron with ReLU, trained by Adam on normal data.

    Args:
        name: of the row of figures.
        sizes: features, hidden units, outputs.
        batch: rows of a minibatch.
        loss: (z - t)², or softmax cross-entropy with random labels.
        precisions: those that are timed.
        rate: the learning rate; small for wide layers, which Adam would throw far off at once.
        turn: steps of a turn, or epochs.
        rounds: turns of each contender.
        floor: what no version can be faster than, seconds, from and to.
        seconds: what gpubp should take at most.
        ratios: what that may be of the best peer of a group.
    """

    name: str
    sizes: tuple[int, ...]
    batch: int
    loss: Literal["squared_error", "softmax_cross_entropy"]
    precisions: tuple[str, ...]
    rate: float
    turn: int
    rounds: int
    floor: tuple[float, float]
    seconds: float
    ratios: tuple[tuple[str, float], ...] = (("peer", 0.7),)
    checked: int = 4  # first steps whose losses are compared
    unit: Literal["step", "epoch"] = "step"

    @property
    def title(self) -> str:
        """Such as ``784-512-512-10 at 256``."""
        return "-".join(map(str, self.sizes)) + f" at {self.batch}"

    @property
    def targets(self) -> int:
        """The number of outputs over which PyTorch's mean divides a squared error."""
        return self.sizes[-1] if self.loss == "squared_error" else 1

    def data(self, rows: int, seed: int) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return X (rows, I), normal, and random targets: never zeros, which multiply faster."""
        random = np.random.default_rng(seed)
        x = random.standard_normal((rows, self.sizes[0]), dtype=np.float32)
        if self.loss == "softmax_cross_entropy":
            return x, random.integers(0, self.sizes[-1], rows)
        return x, random.standard_normal((rows, self.sizes[-1]), dtype=np.float32)

    def layers(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return the first weights (I, O), normal of variance 2 / I, and biases (O,) of 0."""
        random = np.random.default_rng(2)
        return [
            (
                random.standard_normal((i, o), dtype=np.float32) * np.float32((2 / i) ** 0.5),
                np.zeros(o, np.float32),
            )
            for i, o in pairwise(self.sizes)
        ]

    def tiny(self: AnyCase) -> AnyCase:
        """Return a case of the same form that takes no time, for the script's own test."""
        sizes = tuple(min(size, 8 + place) for place, size in enumerate(self.sizes))
        return replace(self, sizes=sizes, batch=12, turn=4, rounds=2, checked=2)


@dataclass(frozen=True)
class EpochCase(Case):
    """An epoch over rows in a new order, then the loss of other rows."""

    rows: int = 60_000
    validation_rows: int = 10_000

    def tiny(self) -> EpochCase:
        """Return a case of the same form that takes no time; the last minibatch is not whole."""
        return replace(super().tiny(), rows=40, validation_rows=15)


STEPS = (
    Case(
        "tabular", (64, 256, 256, 1), 1024, "squared_error", ("fp32", "tf32", "bf16"),
        rate=1e-3, turn=1024, rounds=15, floor=(10e-6, 30e-6), seconds=40e-6,
    ),
    Case(
        "mnist", (784, 512, 512, 10), 256, "softmax_cross_entropy", ("fp32", "tf32", "bf16"),
        rate=1e-3, turn=1024, rounds=15, floor=(25e-6, 40e-6), seconds=50e-6,
    ),
    Case(
        "wide", (4096,) * 5, 8192, "squared_error", ("bf16",),
        rate=1e-5, turn=16, rounds=11, floor=(3.83e-3, 3.83e-3), seconds=4.9e-3,
        ratios=(("peer", 1.0),), checked=3,
    ),
)  # fmt: skip
EPOCH = EpochCase(
    "epoch", (784, 512, 512, 10), 256, "softmax_cross_entropy", ("fp32", "tf32", "bf16"),
    rate=1e-3, turn=5, rounds=9, floor=(6e-3, 9e-3), seconds=15e-3,
    ratios=(("DataLoader", 0.3), ("graph loop", 0.8)), unit="epoch",
)  # fmt: skip
CASES: dict[str, Case] = {case.name: case for case in (*STEPS, EPOCH)}


def find(name: str, *, tiny: bool) -> Case:
    """Return a case by name."""
    return CASES[name].tiny() if tiny else CASES[name]
