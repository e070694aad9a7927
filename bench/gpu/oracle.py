"""What the losses must be: the network and Adam in NumPy and float64.

Written for this alone, from the formulas, and shares nothing with any contender.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu.cases import BETA1, BETA2, EPSILON, Case, EpochCase

Array = NDArray[np.float64]


class Oracle:
    """A case's network, from its first weights on."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.params = [values.astype(np.float64) for layer in case.layers() for values in layer]
        self.first = [np.zeros_like(p) for p in self.params]
        self.second = [np.zeros_like(p) for p in self.params]
        self.steps = 0

    def step(self, x: NDArray[Any], y: NDArray[Any]) -> float:
        """Do a step of Adam (Kingma & Ba 2015, algorithm 1); return the loss before it."""
        inputs, z = self._forward(x)
        loss, delta = self._loss(z, y)
        gradients: list[Array] = []
        for layer in reversed(range(len(inputs))):
            gradients[:0] = [inputs[layer].T @ delta, delta.sum(axis=0)]
            delta = (delta @ self.params[2 * layer].T) * (inputs[layer] > 0)
        self.steps += 1
        rate, unbias = self.case.rate / (1 - BETA1**self.steps), 1 - BETA2**self.steps
        for i, g in enumerate(gradients):
            self.first[i] += (1 - BETA1) * (g - self.first[i])
            self.second[i] += (1 - BETA2) * (g * g - self.second[i])
            scale = np.sqrt(self.second[i] / unbias) + EPSILON
            self.params[i] -= rate * self.first[i] / scale
        return loss

    def loss(self, x: NDArray[Any], y: NDArray[Any]) -> float:
        """Return the mean loss over rows."""
        return self._loss(self._forward(x)[1], y)[0]

    def _forward(self, x: NDArray[Any]) -> tuple[list[Array], Array]:
        """Return the layers' inputs and the outputs."""
        inputs = [x.astype(np.float64)]
        for weight, bias in zip(self.params[:-2:2], self.params[1:-2:2], strict=True):
            inputs.append(np.maximum(inputs[-1] @ weight + bias, 0))
        return inputs, inputs[-1] @ self.params[-2] + self.params[-1]

    def _loss(self, z: Array, y: NDArray[Any]) -> tuple[float, Array]:
        """Return the mean over rows, and its gradient at z."""
        rows = len(z)
        if self.case.loss == "squared_error":
            difference = z - y
            return float((difference**2).sum() / rows), 2 * difference / rows
        z = z - z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        chosen = np.arange(rows), y
        delta = np.exp(log_p)
        delta[chosen] -= 1
        return float(-log_p[chosen].mean()), delta / rows


def losses(case: Case) -> list[float]:
    """Return what a contender's ``losses`` must be.

    Of a step: the losses of the first ones, all on one minibatch. Of an epoch: the mean loss of the
    first one, its rows in order, and then that of the validation rows.
    """
    oracle = Oracle(case)
    if not isinstance(case, EpochCase):
        x, y = case.data(case.batch, seed=1)
        return [oracle.step(x, y) for _ in range(case.checked)]
    x, y = case.data(case.rows, seed=1)
    total = 0.0
    for start in range(0, case.rows, case.batch):
        rows = slice(start, start + case.batch)
        total += oracle.step(x[rows], y[rows]) * len(x[rows])
    return [total / case.rows, oracle.loss(*case.data(case.validation_rows, seed=3))]
