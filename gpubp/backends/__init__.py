"""Backends: each runs plans in the best way that it has, behind one protocol (base.py)."""

from __future__ import annotations

from gpubp.backends.base import Backend
from gpubp.errors import InputError, unknown_name
from gpubp.interrupts import deferred
from gpubp.settings import whole_number

# The kind of device that each computes on, the fastest first.
DEVICES = {"cupy": "cuda", "numba": "cpu", "numpy": "cpu"}


# Who computes matrix products on a CPU, or that it is chosen by measurement.
GEMMS = ("auto", "tiles", "blas", "mkl")

MOST_THREADS = 4096  # more than any machine has, and not more than a system can make

# By what a training step is split among threads, or that it is chosen.
SHARE_BY = ("auto", "rows", "units")


def check(
    threads: object, gemm: str, shares: object | None, share_by: str
) -> tuple[int, int | None]:
    """Return threads and shares as ints, of what a user may say of how the numba backend computes.

    Raises:
        InputError: a setting is out of its range.
    """
    count = whole_number(threads)
    if count is None or not 1 <= count <= MOST_THREADS:
        raise InputError(
            f"threads must be a whole number from 1 to {MOST_THREADS}, got {threads!r}"
        )
    parts = None if shares is None else whole_number(shares)
    if shares is not None and not (parts is not None and 1 <= parts <= count):
        raise InputError(
            f"shares must be a whole number from 1 to the number of threads, {count}, or None, "
            f"got {shares!r}"
        )
    if gemm not in GEMMS:
        raise unknown_name("gemm", gemm, GEMMS)
    if share_by not in SHARE_BY:
        raise unknown_name("share_by", share_by, SHARE_BY)
    return count, parts


def create(
    name: str,
    threads: int = 1,
    *,
    gemm: str = "auto",
    shares: int | None = None,
    share_by: str = "auto",
    index: int = 0,
    precision: str = "fp32",
) -> Backend:
    """Return a new backend by name.

    Args:
        name: one of :data:`DEVICES`.
        threads: how many threads it may use at most, where it has a choice.
        gemm: one of :data:`GEMMS`, for a backend that has that choice.
        shares: into how many shares it splits a minibatch; None leaves that to it.
        share_by: one of :data:`SHARE_BY`, for a backend that has that choice.
        index: which GPU, for a backend on CUDA.
        precision: "tf32" lets CUDA's float32 matrix products round their operands to TF32.

    Raises:
        InputError: there is no backend of that name, or a setting is out of its range.
        DeviceError: what is asked for is not installed.
    """
    if name not in DEVICES:
        raise unknown_name("backend", name, DEVICES)
    # Imported here: each backend imports a library that the others do without. Ctrl-C waits for it,
    # because amid an import it can be lost, or become another error.
    with deferred():
        if name == "numpy":
            from gpubp.backends.numpy import NumpyBackend  # noqa: PLC0415

            return NumpyBackend(threads=threads)
        if name == "numba":
            from gpubp.backends.numba import NumbaBackend  # noqa: PLC0415

            return NumbaBackend(threads, gemm=gemm, shares=shares, share_by=share_by)
        from gpubp.backends.cupy import CupyBackend  # noqa: PLC0415
        from gpubp.kernels.cuda.cupy_driver import CupyDriver  # noqa: PLC0415

        return CupyBackend(CupyDriver(index), tf32=precision == "tf32")
