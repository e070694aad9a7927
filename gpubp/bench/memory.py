"""How much memory training takes, and what for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpubp.bench import phases
from gpubp.kernels.contract import WIDE
from gpubp.plan.ir import WIDTHS
from gpubp.trainer import Trainer


def of_training(trainer: Trainer, data: Sequence[Any], batch: int) -> dict[str, int]:
    """Return bytes by what they hold, and the process's peak."""
    plan = trainer.plan(batch)
    vector = WIDTHS[WIDE[plan.dtype]] * trainer.parameters().size
    return {
        "parameters": vector,
        "gradients": vector,
        "optimizer": vector * len(trainer.optimizer.state),
        "transient": phases.transient(plan),
        "data": sum(array.nbytes for array in data),
        "peak process": process("VmHWM"),
    }


def process(field: str) -> int:
    """Return a figure of this process, in bytes.

    VmHWM is the peak of what is in memory, pages of mapped files included. It is ru_maxrss but for
    one thing: a new program does not inherit it from the process that started it.
    """
    text = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in text.splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
