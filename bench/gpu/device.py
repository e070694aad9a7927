"""The device that a process computes on: a GPU, or the stand-in of the tests for the script's own.

Imported by processes of their own alone, as all that imports gpubp.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gpubp
from gpubp.backends.cupy import CupyBackend
from gpubp.callbacks import Callback
from gpubp.kernels.cuda.cupy_driver import CupyDriver
from gpubp.kernels.cuda.driver import Driver

TESTS = Path(__file__).resolve().parents[2] / "tests"


def driver(*, stand_in: bool) -> Driver:
    """Return the first GPU's driver, or that of a stand-in."""
    if not stand_in:
        return CupyDriver(0)
    sys.path.append(str(TESTS))
    from host_cuda.driver import Machine  # noqa: PLC0415

    found: Driver = Machine().drivers[0]
    return found


def trainer(
    network: gpubp.Sequential, precision: str, *, stand_in: bool, **settings: Any
) -> gpubp.Trainer:
    """Return a trainer as users make it."""
    if not stand_in:
        return gpubp.Trainer(network, device="cuda", precision=precision, **settings)
    made = gpubp.Trainer(network, backend="numpy", **settings)
    made._backend = CupyBackend(driver(stand_in=True), tf32=precision == "tf32")
    made.precision = precision
    return made


def backend_of(trainer: gpubp.Trainer) -> CupyBackend:
    """Return what a trainer computes with."""
    assert isinstance(trainer._backend, CupyBackend)
    return trainer._backend


class _Keep(Callback):
    """Keeps what the steps of an epoch run with, which fit lets go of at its end."""

    def on_epoch_end(self, trainer: gpubp.Trainer, record: Any) -> None:
        executables = trainer._trained()._executables
        (self.executable,) = (made for key, made in executables.items() if key[0] == "training")
        self.data = dict(self.executable.data)


def training_step(trainer: gpubp.Trainer, x: Any, y: Any, batch: int) -> Any:
    """Train for an epoch; return the executable that ``fit`` ran it with, ready to run it again.

    The rows are a whole number of minibatches. It goes past the public door, for only so can steps
    be had without the epoch around them; they are bound to what they had in the epoch: data, an
    order of the rows, learning rates. The device must be the current one.
    """
    kept = _Keep()
    trainer.fit(x, y, 1, batch, callbacks=[kept])
    kept.executable.bind(trainer._trained().vectors, kept.data)
    rewind(trainer)
    return kept.executable


def rewind(trainer: gpubp.Trainer) -> None:
    """Have the next step be the first of an epoch."""
    engine = trainer._trained()
    engine.rewind()
    engine.begin_epoch(engine.step)


def normal(on: Driver, shape: tuple[int, ...], seed: int) -> Any:
    """Return normal float32 numbers on a device, which is current; drawn there."""
    random = getattr(on.xp, "random", np.random)
    made = random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return on.upload(made) if isinstance(made, np.ndarray) else made


def labels(on: Driver, classes: int, rows: int, seed: int) -> Any:
    """Return random class ids (rows,), int64, on a device, which is current."""
    drawn: NDArray[np.int64] = np.random.default_rng(seed).integers(0, classes, rows)
    return on.upload(drawn)
