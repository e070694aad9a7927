"""Graphs against single launches, bit for bit, and whether a long run keeps memory as it was."""

from __future__ import annotations

from typing import Any

import numpy as np

import gpubp
from gpu import device

STEPS_A_GRAPH = (1, 16)


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

        Raises:
            RuntimeError: they do not.
        """
        bits = {per_graph: self._after(steps, per_graph) for per_graph in (0, *STEPS_A_GRAPH)}
        for per_graph in STEPS_A_GRAPH:
            different = [name for name in bits[0] if bits[per_graph][name] != bits[0][name]]
            if different:
                raise RuntimeError(
                    f"{steps} steps, {per_graph} a graph, left other bits in {different}"
                )
        return {"steps": steps, "a_graph": list(STEPS_A_GRAPH), "vectors": sorted(bits[0])}

    def _after(self, steps: int, per_graph: int) -> dict[str, bytes]:
        """Return what outlives a step after so many, ``per_graph`` 0: launched one by one."""
        trainer, executable = self._ready(steps)
        backend = device.backend_of(trainer)
        with backend.active():
            if per_graph:
                executable._replay(steps, per_graph)
            else:
                for _ in range(steps):
                    executable.step()
            backend.driver.synchronize()
            vectors = trainer._trained().vectors
            return {name: backend.to_host(vector).tobytes() for name, vector in vectors.items()}

    def memory(self, steps: int) -> dict[str, Any]:
        """Return free device memory before and after steps, all being warm."""
        trainer, executable = self._ready(steps)
        backend = device.backend_of(trainer)
        with backend.active():
            free = []
            for _ in range(2):
                device.rewind(trainer)
                executable.run(steps)
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
