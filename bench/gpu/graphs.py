"""Graphs against single launches, bit for bit, and whether a long run keeps memory as it was."""

from __future__ import annotations

from typing import Any

import numpy as np

import gpubp
from gpu import device


class Graphs:
    """A network with what may go wrong: odd sizes, dropout, clipping, decay, a sum over the batch.

    Args:
        precision: of the trainers.
        stand_in: on the CPU.
    """

    FEATURES, BATCH, CLASSES = 37, 50, 10

    def __init__(self, precision: str, stand_in: bool) -> None:
        self._precision, self._stand_in = precision, stand_in

    def compare(self, steps: int) -> dict[str, Any]:
        """Return whether steps as graphs leave the same bits as launches one by one, and where not.

        Steps enough that the backend tries graphs of several, too.
        """
        vectors = []
        for eager in (True, False):
            trainer, executable = self._ready(steps)
            with trainer._backend.active():
                if eager:
                    for _ in range(steps):
                        executable.step()
                    trainer._backend.driver.synchronize()
                else:
                    outcome = executable.run(steps)
                    if outcome.reason != "finished":
                        raise RuntimeError(f"{steps} steps ended as {outcome}")
                held = trainer._trained().vectors
                vectors.append({n: trainer._backend.to_host(held[n]).tobytes() for n in held})
        one_by_one, replayed = vectors
        different = [name for name in one_by_one if one_by_one[name] != replayed[name]]
        if different:
            raise RuntimeError(f"after {steps} steps graphs left other bits in {different}")
        return {"steps": steps, "vectors": sorted(one_by_one), "same_bits": True}

    def memory(self, steps: int) -> dict[str, Any]:
        """Return free device memory before and after steps, all being warm."""
        trainer, executable = self._ready(steps)
        backend, engine = trainer._backend, trainer._trained()
        with backend.active():
            free = []
            for _ in range(2):
                engine.rewind()
                engine.begin_epoch(engine.step)
                executable.run(steps)  # the first run captures
                backend.driver.synchronize()
                free.append(backend.driver.memory()[0])
        before, after = free
        result = {"steps": steps, "free_before": before, "free_after": after}
        if after < before:
            raise RuntimeError(f"{steps} steps took {before - after} bytes of device memory away")
        return result

    def _ready(self, steps: int) -> tuple[gpubp.Trainer, Any]:
        """Return a trainer, the same every time, and its bound training step."""
        network = gpubp.Sequential(
            gpubp.Dense(33, "relu"), gpubp.Dropout(0.2), gpubp.Dense(17, "tanh"),
            gpubp.Dense(self.CLASSES),
        )  # fmt: skip
        trainer = device.trainer(
            network, self._precision, stand_in=self._stand_in, optimizer="adamw", clip_norm=1.0,
            l2=1e-4,
        )  # fmt: skip
        random = np.random.default_rng(0)
        rows = self.BATCH * steps
        x = random.standard_normal((rows, self.FEATURES), dtype=np.float32)
        y = random.integers(0, self.CLASSES, rows)
        with trainer._backend.active():
            return trainer, device.training_step(trainer, x, y, self.BATCH)
