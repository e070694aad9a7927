"""The device that a process computes on: a GPU, or the stand-in of the tests for the script's own.

Imported by processes of their own alone, as all that imports gpubp.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gpubp
from gpubp.backends.cupy import CupyBackend
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


def training_step(trainer: gpubp.Trainer, x: Any, y: Any, batch: int) -> Any:
    """Return the executable that ``fit`` would run an epoch over these rows with, made ready.

    It goes past the public door, for only so can steps be had without the epoch around them: what
    is done here is what fit does before an epoch. The device must be the current one.
    """
    checked = trainer._checked(x, y, None, fitting=True)
    data, _ = trainer._placed(checked, None, batch)
    engine = trainer._trained()
    order = engine.backend.zeros(data.size, "int64")
    rates = engine.backend.zeros(data.size // batch, "float64")
    order[...] = engine.order(None, data.size, 0, True)
    rates[...] = trainer.optimizer.lr
    arrays = {**replace(data, rows=order).arrays(), "rates": rates}
    engine.rewind()
    engine.begin_epoch(engine.step)
    return engine._bound(replace(data, rows=order), arrays, batch)


def normal(on: Driver, shape: tuple[int, ...], seed: int) -> Any:
    """Return normal float32 numbers on a device, which is current; drawn there."""
    random = getattr(on.xp, "random", None)
    made = random.default_rng(seed).standard_normal(shape, dtype=on.xp.float32)
    return on.upload(made) if isinstance(made, np.ndarray) else made


def labels(on: Driver, classes: int, rows: int, seed: int) -> Any:
    """Return random class ids (rows,), int64, on a device, which is current."""
    drawn: NDArray[np.int64] = np.random.default_rng(seed).integers(0, classes, rows)
    return on.upload(drawn)
