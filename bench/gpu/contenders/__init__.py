"""Who is timed on a GPU: gpubp, and what its users would use instead, each in its fastest forms.

A contender is a class in a module of its own, which alone imports the library, and lives in a
process of its own; ``base.py`` says what it can do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from gpu.cases import Case, EpochCase


@dataclass(frozen=True)
class Entry:
    """A contender; the fastest of a group is what gpubp is compared with.

    ``options`` are arguments of its class; ``needs`` the packages that must be there.
    """

    name: str
    group: str
    factory: str
    needs: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> str:
        """Which packages it needs that are not installed."""
        return ", ".join(name for name in self.needs if find_spec(name) is None)


OURS = "gpubp"
_TORCH = ("torch",)
_STEPS, _LOADER, _LOOP = (
    f"gpu.contenders.{place}"
    for place in ("pytorch:Steps", "pytorch_epochs:Loader", "pytorch_epochs:GraphLoop")
)
STEP_ENTRIES = (
    Entry(OURS, "ours", "gpu.contenders.ours:Steps"),
    Entry("PyTorch eager", "peer", _STEPS, _TORCH),
    Entry("PyTorch graph", "peer", _STEPS, _TORCH, {"captured": True}),
    Entry("torch.compile", "peer", _STEPS, _TORCH, {"compiled": True}),
    Entry("torch.compile, graph", "peer", _STEPS, _TORCH, {"compiled": True, "captured": True}),
    Entry("JAX scan", "peer", "gpu.contenders.jax_scan:Steps", ("jax",)),
)
EPOCH_ENTRIES = (
    Entry(OURS, "ours", "gpu.contenders.ours:Epochs"),
    Entry("PyTorch DataLoader", "DataLoader", _LOADER, _TORCH),
    Entry("PyTorch DataLoader, 4 workers", "DataLoader", _LOADER, _TORCH, {"workers": 4}),
    Entry("PyTorch graph loop", "graph loop", _LOOP, _TORCH),
    Entry("PyTorch graph loop, compiled", "graph loop", _LOOP, _TORCH, {"compiled": True}),
    Entry(
        "PyTorch graph loop, compiled, a graph an epoch", "graph loop", _LOOP, _TORCH,
        {"compiled": True, "whole": True},
    ),
)  # fmt: skip


def entries(case: Case) -> tuple[Entry, ...]:
    """Return who is timed on a case."""
    return EPOCH_ENTRIES if isinstance(case, EpochCase) else STEP_ENTRIES
