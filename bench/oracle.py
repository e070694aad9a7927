"""What the loss must be: the network, softmax cross-entropy and Adam in NumPy and float64.

Written for this alone, from the formulas, and shares nothing with any contender.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from networks import BETA1, BETA2, EPSILON, LEARNING_RATE, Network

Array = NDArray[np.float64]


@cache
def losses(network: Network, *, epsilon_first: bool) -> tuple[float, float]:
    """Return the mean loss over all rows at the start, and after an epoch of rows in order.

    ``epsilon_first`` is Adam in the other order of its paper (Kingma & Ba 2015, end of section 2),
    which scikit-learn follows: epsilon is added to √v before the bias correction. Where gradients
    are as small as epsilon, that is another path.
    """
    data, labels = network.data()
    x = data.astype(np.float64)
    params = [values.astype(np.float64) for layer in network.layers() for values in layer]
    first = [np.zeros_like(p) for p in params]
    second = [np.zeros_like(p) for p in params]
    before = _loss(params, x, labels)
    for step in range(network.steps):
        rows = slice(step * network.batch, (step + 1) * network.batch)
        gradients = _gradients(params, x[rows], labels[rows])
        rate = LEARNING_RATE / (1 - BETA1 ** (step + 1))
        unbias = np.sqrt(1 - BETA2 ** (step + 1))
        epsilon = EPSILON if epsilon_first else EPSILON * unbias
        for i, g in enumerate(gradients):
            first[i] += (1 - BETA1) * (g - first[i])
            second[i] += (1 - BETA2) * (g * g - second[i])
            params[i] -= rate * unbias * first[i] / (np.sqrt(second[i]) + epsilon)
    return before, _loss(params, x, labels)


def _forward(params: list[Array], x: Array) -> tuple[list[Array], Array]:
    """Return the layers' inputs and the log-probabilities."""
    inputs = [x]
    for weight, bias in zip(params[:-2:2], params[1:-2:2], strict=True):
        inputs.append(np.maximum(inputs[-1] @ weight + bias, 0))
    z = inputs[-1] @ params[-2] + params[-1]
    z = z - z.max(axis=1, keepdims=True)
    return inputs, z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def _loss(params: list[Array], x: Array, labels: NDArray[np.int64]) -> float:
    _, log_p = _forward(params, x)
    return float(-log_p[np.arange(len(labels)), labels].mean())


def _gradients(params: list[Array], x: Array, labels: NDArray[np.int64]) -> list[Array]:
    inputs, log_p = _forward(params, x)
    delta = np.exp(log_p)
    delta[np.arange(len(labels)), labels] -= 1
    delta /= len(labels)
    gradients: list[Array] = []
    for layer in reversed(range(len(inputs))):
        gradients[:0] = [inputs[layer].T @ delta, delta.sum(axis=0)]
        delta = (delta @ params[2 * layer].T) * (inputs[layer] > 0)
    return gradients
