"""What the loss must be: the network, softmax cross-entropy and Adam in NumPy and float64.

Written for this alone, from the formulas, and shares nothing with any contender.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from gpubp.bench.cases import BETA1, BETA2, EPSILON, LEARNING_RATE, Case

Array = NDArray[np.float64]

# How far a loss may be from the oracle's after an epoch, relative to it: a few hundred steps of
# rounding. 5e-5 was the largest seen in float32.
TOLERANCES = {"fp32": 2e-4, "fp64": 1e-9, "tf32": 1e-2, "bf16": 3e-2}

# Of each activation f: a = f(z), and f'(z) out of a.
_FUNCTIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "relu": (lambda z: np.maximum(z, 0), lambda a: (a > 0).astype(np.float64)),
    "tanh": (np.tanh, lambda a: 1 - a * a),
    "sigmoid": (lambda z: 0.5 + 0.5 * np.tanh(z / 2), lambda a: a * (1 - a)),
}


def losses(case: Case, *, epsilon_first: bool = False) -> tuple[float, float]:
    """Return the mean loss over all rows at the start, and after an epoch of rows in order.

    ``epsilon_first`` is Adam in the other order of its paper (Kingma & Ba 2015, end of section 2),
    which scikit-learn follows: epsilon is added to √v before the bias correction. Where gradients
    are as small as epsilon, that is another path.
    """
    return _losses(replace(case, device="", precision=""), epsilon_first)


@cache
def _losses(case: Case, epsilon_first: bool) -> tuple[float, float]:
    data, labels = case.data()
    x = data.astype(np.float64)
    params = [values.astype(np.float64) for layer in case.layers() for values in layer]
    first = [np.zeros_like(p) for p in params]
    second = [np.zeros_like(p) for p in params]
    before = _loss(case, params, x, labels)
    for step in range(case.steps):
        rows = slice(step * case.batch, (step + 1) * case.batch)
        gradients = _gradients(case, params, x[rows], labels[rows])
        rate = LEARNING_RATE / (1 - BETA1 ** (step + 1))
        unbias = np.sqrt(1 - BETA2 ** (step + 1))
        epsilon = EPSILON if epsilon_first else EPSILON * unbias
        for i, g in enumerate(gradients):
            first[i] += (1 - BETA1) * (g - first[i])
            second[i] += (1 - BETA2) * (g * g - second[i])
            params[i] -= rate * unbias * first[i] / (np.sqrt(second[i]) + epsilon)
    return before, _loss(case, params, x, labels)


def _forward(case: Case, params: list[Array], x: Array) -> tuple[list[Array], Array]:
    """Return the layers' inputs and the log-probabilities."""
    function, _ = _FUNCTIONS[case.activation]
    inputs = [x]
    for weight, bias in zip(params[:-2:2], params[1:-2:2], strict=True):
        inputs.append(function(inputs[-1] @ weight + bias))
    z = inputs[-1] @ params[-2] + params[-1]
    z = z - z.max(axis=1, keepdims=True)
    return inputs, z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def _loss(case: Case, params: list[Array], x: Array, labels: NDArray[np.int64]) -> float:
    _, log_p = _forward(case, params, x)
    return float(-log_p[np.arange(len(labels)), labels].mean())


def _gradients(case: Case, params: list[Array], x: Array, labels: NDArray[np.int64]) -> list[Array]:
    _, slope = _FUNCTIONS[case.activation]
    inputs, log_p = _forward(case, params, x)
    delta = np.exp(log_p)
    delta[np.arange(len(labels)), labels] -= 1
    delta /= len(labels)
    gradients: list[Array] = []
    for layer in reversed(range(len(inputs))):
        gradients[:0] = [inputs[layer].T @ delta, delta.sum(axis=0)]
        if layer:
            delta = (delta @ params[2 * layer].T) * slope(inputs[layer])
    return gradients
