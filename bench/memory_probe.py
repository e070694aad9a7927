"""Says how much memory a process needed at its peak that trained for an epoch on 1 GB of float32.

    python memory_probe.py BACKEND memory|memmap|write FILE

Prints JSON: the mean loss of the epoch, and bytes at the peak, of X, of the plan, and what the
process needed before X was there: the interpreter, the libraries, and a training on a few rows,
after which all kernels are loaded.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

import gpubp
from gpubp.bench import memory, phases

_FEATURES, _BATCH = 784, 128
_ROWS = 10**9 // (_FEATURES * 4)
_WRITTEN_AT_ONCE = 4096  # rows


def main(backend: str, variant: str, path: str) -> None:
    """Run one variant."""
    random = np.random.default_rng(0)
    if variant == "write":
        _write(path, random)
        print("{}")
        return
    network = gpubp.Sequential(gpubp.Dense(256, "relu"), gpubp.Dense(128, "relu"), gpubp.Dense(10))
    trainer = gpubp.Trainer(network, backend=backend)
    few = np.random.default_rng(1).standard_normal((2 * _BATCH, _FEATURES), dtype=np.float32)
    trainer.fit(few, np.arange(2 * _BATCH) % 10, batch_size=_BATCH)
    before = memory.process("VmHWM")
    if variant == "memmap":
        x = np.load(path, mmap_mode="r")
    else:
        x = np.empty((_ROWS, _FEATURES), np.float32)
        random.standard_normal(dtype=np.float32, out=x)
    labels = np.random.default_rng(2).integers(0, 10, _ROWS)
    start = time.perf_counter()
    trainer.fit(x, labels, batch_size=_BATCH)
    seconds = time.perf_counter() - start
    report: dict[str, float] = {
        "peak": memory.process("VmHWM"), "before": before, "x": x.nbytes, "labels": labels.nbytes,
        "plan": _plan_bytes(trainer), "mapped": memory.process("RssFile"), "seconds": seconds,
        "loss": trainer.history.column("loss")[-1],
    }  # fmt: skip
    print(json.dumps(report))


def _write(path: str, random: np.random.Generator) -> None:
    """Write X to a file, a piece at a time."""
    x = np.lib.format.open_memmap(path, "w+", np.float32, (_ROWS, _FEATURES))
    for start in range(0, _ROWS, _WRITTEN_AT_ONCE):
        rows = x[start : start + _WRITTEN_AT_ONCE]
        rows[...] = random.standard_normal(rows.shape, dtype=np.float32)


def _plan_bytes(trainer: gpubp.Trainer) -> int:
    """Return what a training step works in: parameters, gradients, Adam's two, and activations."""
    return 4 * trainer.parameters().nbytes + phases.transient(trainer.plan(_BATCH))


if __name__ == "__main__":
    main(*sys.argv[1:])
