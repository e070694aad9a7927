"""What hardware is here, which of it is used, and why not another.

The NVIDIA driver is asked through its own library, so that nothing has to be installed to learn
that there is a GPU. Nothing is imported or asked before a function is called.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpubp.backends import NAMES as BACKENDS
from gpubp.errors import DeviceError, unknown_name

VARIABLE = "GPUBP_DEVICE"

_CUPY = ("cupy-cuda12x", "cupy-cuda13x", "cupy")
_NO_BACKEND = "this version of gpubp has no CUDA backend"


@dataclass(frozen=True, slots=True)
class Choice:
    """A device and the backend that computes on it; ``reason`` is one line."""

    device: str
    backend: str
    reason: str


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as its driver describes it."""

    name: str
    memory: int  # bytes
    capability: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Driver:
    """The NVIDIA driver: the CUDA version that it supports and its GPUs, or what the problem is."""

    version: tuple[int, int] = (0, 0)
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""

    def __str__(self) -> str:
        """Return it as a phrase."""
        names = ", ".join(gpu.name for gpu in self.gpus)
        return self.problem or f"{names} (driver for CUDA {self.version[0]}.{self.version[1]})"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is on this machine. A version is None where the thing is not installed."""

    processor: str
    cores: int
    blas: tuple[str, ...]
    numba: str | None
    driver: Driver
    cupy: str | None


def resolve(device: str | None = "auto", backend: str | None = None) -> Choice:
    """Choose where to compute.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; ``"auto"`` and None follow the
            environment variable GPUBP_DEVICE if it is set.
        backend: ``"numba"``, ``"numpy"``, or None for the fastest that the device has.

    Raises:
        InputError: there is no device or backend of that name.
        DeviceError: it is known but can't be had here; the message says what is missing.
    """
    asked, why = device or "auto", "as asked"
    if asked == "auto" and os.environ.get(VARIABLE):
        asked, why = os.environ[VARIABLE], f"as {VARIABLE} says"
    if backend is not None and backend not in BACKENDS:
        raise unknown_name("backend", backend, BACKENDS)
    if re.fullmatch(r"cuda(:\d+)?", asked):
        raise _no_cuda(asked)
    if asked == "auto":
        why = f"not cuda, because {_NO_BACKEND}"
    elif asked != "cpu":
        raise unknown_name("device", asked, ("auto", "cpu", "cuda", "cuda:0"))
    problem = _numba_problem() if backend in (None, "numba") else ""
    if backend == "numba" and problem:
        raise DeviceError(f"backend 'numba' can't be had: {problem}; pip install numba")
    if problem:
        why += f"; not numba, because {problem} (pip install numba)"
    chosen = backend or ("numpy" if problem else "numba")
    return Choice("cpu", chosen, f"cpu with {chosen} ({why})")


def inventory() -> Inventory:
    """Return what is on this machine; takes about a second."""
    return Inventory(
        processor=_processor(),
        cores=cores(),
        blas=_blas(),
        numba=_version("numba"),
        driver=driver(),
        cupy=next(filter(None, map(_version, _CUPY)), None),
    )


def implementers(kernel: str) -> tuple[str, ...]:
    """Return who implements a kernel: the reference always, then other versions of it."""
    if _numba_problem():
        return ("reference",)
    from gpubp.kernels.numba import entry  # noqa: PLC0415

    return ("reference", "numba") if entry.implements(kernel) else ("reference",)


def cores() -> int:
    """Return the number of cores that this process may use: its affinity and its group's quota."""
    usable = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(usable, int(quota) // int(period)))
    except (OSError, ValueError):  # no such group, or "max": no quota
        return usable


def driver(load: Callable[[str], Any] = ctypes.CDLL) -> Driver:
    """Ask the NVIDIA driver for its version and GPUs.

    Args:
        load: opens a shared library; a test passes one of its own.
    """
    try:
        library = load("libcuda.so.1")
    except OSError:
        return Driver(problem="no NVIDIA driver (libcuda.so.1 is not found)")
    number = ctypes.c_int()
    try:
        _call(library, "cuDriverGetVersion", ctypes.byref(number))
        version = number.value // 1000, number.value % 1000 // 10
        _call(library, "cuInit", 0)
        _call(library, "cuDeviceGetCount", ctypes.byref(number))
        gpus = tuple(_gpu(library, index) for index in range(number.value))
    except DeviceError as error:
        return Driver(problem=f"the NVIDIA driver fails: {error}")
    return Driver(version, gpus, "" if gpus else "the NVIDIA driver finds no GPU")


def missing_cuda(found: Driver) -> str:
    """Return why CUDA can't be used and what will install it for a driver."""
    extra = "cuda13" if found.version >= (13, 0) else "cuda12"
    return f"{_NO_BACKEND}; a later one is installed by pip install --upgrade 'gpubp[{extra}]'"


def _gpu(library: Any, index: int) -> Gpu:
    """Return what the driver says of one GPU."""
    handle, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    capability = ctypes.c_int(), ctypes.c_int()
    _call(library, "cuDeviceGet", ctypes.byref(handle), index)
    _call(library, "cuDeviceGetName", name, len(name), handle)
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    for value, attribute in zip(
        capability, (75, 76), strict=True
    ):  # COMPUTE_CAPABILITY_MAJOR, _MINOR
        _call(library, "cuDeviceGetAttribute", ctypes.byref(value), attribute, handle)
    major, minor = (value.value for value in capability)
    return Gpu(name.value.decode(), memory.value, (major, minor))


def _call(library: Any, function: str, *arguments: Any) -> None:
    """Call a function of the driver.

    Raises:
        DeviceError: it returned an error code.
    """
    code = getattr(library, function)(*arguments)
    if code:
        text = ctypes.c_char_p()
        library.cuGetErrorString(code, ctypes.byref(text))
        raise DeviceError(f"{function} returned {code}, {(text.value or b'unknown').decode()}")


def _no_cuda(device: str) -> DeviceError:
    """Return the error for a CUDA device, with what is here and what is missing."""
    found = driver()
    cupy = "CuPy is installed" if importlib.util.find_spec("cupy") else "CuPy is not installed"
    return DeviceError(
        f"device {device!r} can't be had: {missing_cuda(found)}. "
        f"Here: {found}; {cupy}. Until then use device 'cpu'"
    )


def _numba_problem() -> str:
    """Return why Numba can't be used, or the empty text."""
    try:
        importlib.import_module("numba")
    except ImportError as error:  # not there, or not for this version of NumPy or Python
        return f"Numba can't be imported: {error}"
    return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _blas() -> tuple[str, ...]:
    """Return the BLAS libraries that NumPy and SciPy have loaded."""
    import scipy.linalg  # noqa: F401, PLC0415 (loads its BLAS, and NumPy)
    import threadpoolctl  # noqa: PLC0415

    found = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    names = {
        f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', 'generic')})"
        for pool in found
    }
    return tuple(sorted(names))


def _version(distribution: str) -> str | None:
    from importlib import metadata  # noqa: PLC0415 (20 ms)

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
