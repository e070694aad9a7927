"""Backends: each runs plans in the best way that it has, behind one protocol (base.py)."""

from __future__ import annotations

from gpubp.backends.base import Backend
from gpubp.errors import unknown_name

# The kind of device that each computes on, the fastest first.
DEVICES = {"cupy": "cuda", "numba": "cpu", "numpy": "cpu"}


def create(name: str, threads: int = 1, *, index: int = 0, precision: str = "fp32") -> Backend:
    """Return a new backend by name.

    Args:
        name: one of :data:`DEVICES`.
        threads: how many threads it may use at most, where it has a choice.
        index: which GPU, for a backend on CUDA.
        precision: "tf32" lets CUDA's float32 matrix products round their operands to TF32.

    Raises:
        InputError: there is no backend of that name.
    """
    # Imported here: each backend imports a library that the others do without.
    if name == "numpy":
        from gpubp.backends.numpy import NumpyBackend  # noqa: PLC0415

        return NumpyBackend()
    if name == "numba":
        from gpubp.backends.numba import NumbaBackend  # noqa: PLC0415

        return NumbaBackend(threads)
    if name == "cupy":
        from gpubp.backends.cupy import CupyBackend  # noqa: PLC0415
        from gpubp.kernels.cuda.cupy_driver import CupyDriver  # noqa: PLC0415

        return CupyBackend(CupyDriver(index), tf32=precision == "tf32")
    raise unknown_name("backend", name, DEVICES)
