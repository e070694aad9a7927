"""Who is timed: gpubp, what its users would use instead, and the floor, matrix products alone.

A contender is a class in a module of its own, which alone imports the library. It is written as the
library's own users would write it well, and lives in a process of its own.
"""

from __future__ import annotations

import importlib
import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from contenders.base import Contender
from networks import Network


@dataclass(frozen=True)
class Entry:
    """A contender in one setting. The best setting of a family is what counts.

    ``threads`` None leaves the library its default; ``needs`` are packages, ``compiler`` says that
    it needs one of C++ too; ``epsilon_first`` is explained in oracle.py.
    """

    family: str
    setting: str
    role: Literal["ours", "peer", "floor"]
    module: str
    factory: str
    threads: int | None = None
    needs: tuple[str, ...] = ()
    compiler: bool = False
    epsilon_first: bool = False

    @property
    def name(self) -> str:
        """Such as ``PyTorch eager, 1 thread``."""
        return f"{self.family}, {self.setting}" if self.setting else self.family

    @property
    def missing(self) -> str:
        """What it needs that is not installed, and the command that installs it; else ""."""
        missing = [name for name in self.needs if find_spec(name) is None]
        if missing:
            return f"{self.family} is missing: pip install {' '.join(missing)}"
        if self.compiler and not shutil.which(os.environ.get("CXX", "g++")):
            return f"{self.family} is missing a C++ compiler: install g++, or name one in CXX"
        return ""

    def make(self, network: Network) -> Contender:
        """Return the contender; its library is imported here."""
        module = importlib.import_module(f"contenders.{self.module}")
        contender: Contender = getattr(module, self.factory)(network, self.threads)
        return contender


ENTRIES = (
    Entry("gpubp numba", "", "ours", "ours", "Numba"),
    Entry("gpubp numba", "1 thread", "ours", "ours", "Numba", 1),
    Entry("PyTorch eager", "", "peer", "pytorch", "Eager", None, ("torch",)),
    Entry("PyTorch eager", "1 thread", "peer", "pytorch", "Eager", 1, ("torch",)),
    Entry("torch.compile", "", "peer", "pytorch", "Compiled", None, ("torch",), compiler=True),
    Entry("torch.compile", "1 thread", "peer", "pytorch", "Compiled", 1, ("torch",), compiler=True),
    Entry("JAX scan", "", "peer", "jax_scan", "Scan", None, ("jax", "optax")),
    Entry("JAX scan", "1 thread", "peer", "jax_scan", "Scan", 1, ("jax", "optax")),
    Entry("scikit-learn", "", "peer", "sklearn_mlp", "Mlp", None, ("sklearn",), epsilon_first=True),
    Entry("floor", "OpenBLAS threads", "floor", "products", "Products"),
    Entry("floor", "OpenBLAS 1 thread", "floor", "products", "Products", 1),
    Entry("floor", "OpenBLAS rows split", "floor", "products", "Split"),
    Entry("floor", "PyTorch's BLAS", "floor", "pytorch", "Products", None, ("torch",)),
)
