"""Backends: each runs plans in the best way that it has, behind one protocol (base.py)."""

from __future__ import annotations

from gpubp.backends.base import Backend
from gpubp.errors import unknown_name

NAMES = ("numba", "numpy")


def create(name: str, threads: int = 1) -> Backend:
    """Return a new backend by name, using at most ``threads`` threads where it has a choice.

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
    raise unknown_name("backend", name, NAMES)
