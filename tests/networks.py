"""Data, trainers and ways to run them, for the tests of everything above the kernels."""

import array_api_strict
import numpy as np

from gpubp import Sequential, Trainer
from gpubp.backends.numpy import NumpyBackend
from gpubp.losses import LOSSES

# Ways to run a trainer: a backend's name, and with how many threads that share every minibatch.
WAYS = {
    "numpy": ("numpy", 1),
    "strict": ("strict", 1),
    "numba-1": ("numba", 1),
    "numba-2": ("numba", 2),
    "numba-3": ("numba", 3),
}


def make(way, *layers, **settings):
    """Return a trainer that runs in one of WAYS; with several threads, however small the work.

    (It is for the test to lower the limits below which work is not split; see ``split_all``.)
    """
    backend, threads = WAYS[way]
    strict = backend == "strict"
    trainer = Trainer(
        Sequential(*layers), backend="numpy" if strict else backend, threads=threads, **settings
    )
    if strict:
        trainer._backend = NumpyBackend(array_api_strict)
    return trainer


def split_all(monkeypatch):
    """Have the Numba backend split a minibatch over all threads, if each gets a row."""
    monkeypatch.setattr("gpubp.backends.numba.MINIMUM_FLOPS", 0)
    monkeypatch.setattr("gpubp.backends.numba.MINIMUM_ROWS", 1)


def data(loss="softmax_cross_entropy", rows=37, features=5, outputs=3, seed=0, dtype=np.float32):
    """Return features and targets for a loss: random, but with something to learn in them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, features))
    signal = X @ rng.normal(size=(features, outputs)) + 0.1 * rng.normal(size=(rows, outputs))
    name = loss if isinstance(loss, str) else LOSSES.name_of(loss)
    y = {
        "softmax_cross_entropy": lambda: signal.argmax(axis=1),
        "sigmoid_cross_entropy": lambda: (signal > 0).astype(dtype),
        "poisson": lambda: rng.poisson(np.exp(np.clip(signal, -2, 2))).astype(dtype),
    }.get(name, lambda: signal.astype(dtype))()
    return X.astype(dtype), y
