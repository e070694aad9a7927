"""Data, trainers and ways to run them, for the tests of everything above the kernels."""

import array_api_strict
import numpy as np
from host_cuda.driver import Machine

from gpubp import Sequential, Trainer, devices
from gpubp.backends.cupy import CupyBackend
from gpubp.backends.numpy import NumpyBackend
from gpubp.kernels.cuda import cupy_driver
from gpubp.losses import LOSSES

# Ways to run a trainer: a backend's name, and with how many threads that share every minibatch.
WAYS = {
    "numpy": ("numpy", 1),
    "strict": ("strict", 1),
    "numba-1": ("numba", 1),
    "numba-2": ("numba", 2),
    "numba-3": ("numba", 3),
    "cuda": ("cuda", 1),
}


def cuda_driver():
    """Return the driver of the first GPU if one can be used, else of a stand-in device."""
    return Machine().drivers[0] if cupy_driver.problem(0) else cupy_driver.CupyDriver(0)


def stand_in(monkeypatch, **settings):
    """Have gpubp find stand-in GPUs as it would real ones; return their machine."""
    machine = Machine(**settings)
    gpus = tuple(
        devices.Gpu(f"stand-in {index}", 2**30, (9, 0)) for index in range(len(machine.drivers))
    )
    monkeypatch.delenv(devices.VARIABLE, raising=False)
    monkeypatch.setattr(devices, "driver", lambda: devices.Driver((13, 0), gpus))
    monkeypatch.setattr(devices, "cuda_problem", lambda index=0: "")
    monkeypatch.setattr(cupy_driver, "CupyDriver", lambda index: machine.drivers[index])
    return machine


def load(way, path, monkeypatch):
    """Return the trainer of a file, to go on in the way in which it was made."""
    if way != "cuda":
        return Trainer.load(path)
    if cupy_driver.problem(0):
        stand_in(monkeypatch)
    return Trainer.load(path, device="cuda")


def on_driver(trainer, driver, precision="fp32"):
    """Have a new trainer compute with a driver."""
    trainer._backend = CupyBackend(driver, tf32=precision == "tf32")
    trainer.precision = precision
    return trainer


def make(way, *layers, **settings):
    """Return a trainer that runs in one of WAYS; with several threads, however small the work.

    (It is for the test to lower the limits below which work is not split; see ``split_all``.)
    """
    backend, threads = WAYS[way]
    if backend == "cuda":
        precision = settings.pop("precision", "fp32")
        trainer = Trainer(Sequential(*layers), backend="numpy", **settings)
        return on_driver(trainer, cuda_driver(), precision)
    strict = backend == "strict"
    trainer = Trainer(
        Sequential(*layers), backend="numpy" if strict else backend, threads=threads, **settings
    )
    if strict:
        trainer._backend = NumpyBackend(array_api_strict)
    return trainer


def split_all(monkeypatch):
    """Have the Numba backend split a minibatch over all threads, if each gets a row."""
    monkeypatch.setattr("gpubp.backends.numba_choices.MINIMUM_FLOPS", 0)
    monkeypatch.setattr("gpubp.backends.numba_choices.MINIMUM_ROWS", 1)


def order(trainer, rows, epoch):
    """Return the order of an epoch's rows, on the host."""
    with trainer._backend.active():
        return np.array(trainer._backend.to_host(trainer._engine.orders(None, rows, True)(epoch)))


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
