"""Who is timed: gpubp, what its users would use instead, and the floor.

A contender is a class in a module of its own, which alone imports the library. It is written as the
library's own users would write it well, and lives in a process of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, metadata
from typing import Any, Literal

from gpubp import devices
from gpubp.bench.cases import Case

_CPU, _CUDA, _BOTH = ("cpu",), ("cuda",), ("cpu", "cuda")


@dataclass(frozen=True)
class Entry:
    """A contender in one setting. The best setting of a family is what counts.

    The family "floor" is no contender: its times are those of a step's matrix products by a BLAS
    that is here, to which limits.py adds what the step's other bytes take.

    ``factory`` is the class of contender; ``threads`` None leaves the library its default; ``peer``
    is by what name a user asks for it; ``needs`` are packages as pip knows them, ``compiler`` says
    that it needs one of C++ too; ``spare`` says that ``gpubp bench`` times it only if peers are
    asked for by name; ``epsilon_first`` is explained in oracle.py.
    """

    family: str
    setting: str
    role: Literal["ours", "peer", "floor"]
    place: str
    threads: int | None = None
    peer: str = ""
    needs: tuple[str, ...] = ()
    devices: tuple[str, ...] = _CPU
    precisions: tuple[str, ...] = ("fp32", "fp64", "tf32", "bf16")
    compiler: bool = False
    spare: bool = False
    epsilon_first: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """Such as ``torch eager, 1 thread``."""
        return f"{self.family}, {self.setting}" if self.setting else self.family

    @property
    def factory(self) -> str:
        """Its class, as a process of its own is told it."""
        return f"{__name__}.{self.place}"

    def load(self) -> Any:
        """Return its class, with the library imported here."""
        module, _, name = self.factory.partition(":")
        return getattr(import_module(module), name)

    @property
    def missing(self) -> str:
        """What it needs that is not installed, and the command that installs it; else ""."""
        missing = [name for name in self.needs if not installed(name)]
        if missing:
            return f"{self.family} is missing: pip install {' '.join(missing)}"
        if self.compiler and not shutil.which(os.environ.get("CXX", "g++")):
            return f"{self.family} is missing a C++ compiler: install g++, or name one in CXX"
        return ""

    def suits(self, case: Case) -> bool:
        """Return whether it computes on a case's device and in its precision."""
        if case.device.partition(":")[0] not in self.devices:
            return False
        if self.role == "ours":
            choice = devices.resolve(case.device, self.options.get("backend"))
            return devices.has_precision(choice, case.precision)
        return case.precision in self.precisions


@cache
def installed(package: str) -> bool:
    """Return whether a package is installed, by its name in the index."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


OURS, PEERS = "gpubp", ("torch", "jax", "sklearn")
_TORCH: dict[str, Any] = {"peer": "torch", "needs": ("torch",)}
_JAX: dict[str, Any] = {"peer": "jax", "needs": ("jax", "optax")}
_COMPILE: dict[str, Any] = _TORCH | {"compiler": True, "options": {"compiled": True}}
_WIDE: dict[str, Any] = {"precisions": ("fp32", "fp64")}
_MKL: dict[str, Any] = {"needs": ("mkl",), "options": {"library": "mkl"}}
ENTRIES = (
    Entry(OURS, "", "ours", "ours:Ours", devices=_BOTH),
    Entry(OURS, "1 thread", "ours", "ours:Ours", 1),
    Entry(OURS, "numpy backend", "ours", "ours:Ours", options={"backend": "numpy"}, spare=True),
    Entry("torch eager", "", "peer", "pytorch:Eager", devices=_BOTH, **_TORCH),
    Entry("torch eager", "1 thread", "peer", "pytorch:Eager", 1, **_TORCH),
    Entry("torch.compile", "", "peer", "pytorch:Eager", devices=_BOTH, **_COMPILE),
    Entry("torch.compile", "1 thread", "peer", "pytorch:Eager", 1, spare=True, **_COMPILE),
    Entry("torch graph", "", "peer", "pytorch:Captured", devices=_CUDA, **_TORCH),
    Entry("jax scan", "", "peer", "jax_scan:Scan", devices=_BOTH, **_JAX),
    Entry("jax scan", "1 thread", "peer", "jax_scan:Scan", 1, **_JAX),
    Entry(
        "scikit-learn", "", "peer", "sklearn_mlp:Mlp", peer="sklearn", needs=("scikit-learn",),
        epsilon_first=True, **_WIDE,
    ),
    Entry("floor", "OpenBLAS threads", "floor", "products:Products", **_WIDE),
    Entry("floor", "OpenBLAS 1 thread", "floor", "products:Products", 1, spare=True, **_WIDE),
    Entry("floor", "OpenBLAS rows split", "floor", "products:Split", **_WIDE),
    Entry("floor", "MKL threads", "floor", "products:Products", spare=True, **_MKL),
    Entry("floor", "MKL rows split", "floor", "products:Split", **_MKL),
    Entry("floor", "PyTorch's BLAS", "floor", "pytorch:Products", needs=("torch",)),
)  # fmt: skip
