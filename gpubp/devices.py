"""What hardware is here, which of it is used, and why not another.

The NVIDIA driver is asked through its own library, so that nothing has to be installed to learn
that there is a GPU. Nothing is imported or asked before a function is called.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpubp.backends import DEVICES as DEVICE_OF
from gpubp.errors import DeviceError, InputError, unknown_name

VARIABLE = "GPUBP_DEVICE"
DRIVER = (12, 0)  # the oldest CUDA version that there are CuPy wheels for

# The working dtype of each precision. Weights and optimizer state are float64 with fp64 and float32
# with the others; tf32, which only GPUs have, rounds the operands of matrix products.
PRECISIONS = {"fp32": "float32", "fp64": "float64", "tf32": "float32", "bf16": "bfloat16"}
_ON_CPU = ("fp32", "fp64", "bf16")

_CUPY = ("cupy-cuda12x", "cupy-cuda13x", "cupy")


@dataclass(frozen=True, slots=True)
class Choice:
    """A device and the backend that computes on it; ``reason`` is one line."""

    device: str
    backend: str
    reason: str

    @property
    def index(self) -> int:
        """Which GPU it is; 0 for the CPU."""
        return _index(self.device)


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
        return self.problem or f"{names} (driver for CUDA {_dotted(self.version)})"


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is on this machine. A version is None where the thing is not installed."""

    processor: str
    cores: int
    blas: tuple[str, ...]
    mkl: str | None
    numba: str | None
    driver: Driver
    cupy: str | None


def resolve(
    device: str | None = "auto", backend: str | None = None, *, trained_with: str | None = None
) -> Choice:
    """Choose where to compute.

    Args:
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``; ``"auto"`` and None follow the
            environment variable GPUBP_DEVICE if it is set.
        backend: ``"cupy"``, ``"numba"``, ``"numpy"``, or None for the fastest that the device has.
        trained_with: the backend that a model was trained with: without ``backend`` it is the
            first choice.

    Raises:
        InputError: there is no device or backend of that name, or the backend is not for the
            device.
        DeviceError: it is known but can't be had here; the message says what is missing.
    """
    for name in (backend, trained_with):
        if name is not None and name not in DEVICE_OF:
            raise unknown_name("backend", name, DEVICE_OF)
    asked, source = _asked(device)
    kind = asked.partition(":")[0]
    there = [name for name, home in DEVICE_OF.items() if kind in ("auto", home)]
    notes = [source] if backend or kind != "auto" else []
    if backend:
        if backend not in there:
            raise InputError(
                f"backend {backend!r} computes on {DEVICE_OF[backend]}, not on {asked} ({source}); "
                "leave out one of the two"
            )
        there, trained_with = [backend], None
    elif trained_with in there:
        there.sort(key=lambda name: name != trained_with)
    elif trained_with:
        notes.append(f"the model was trained with {trained_with}, which is not for {kind}")
    for name in there:
        problem = _problem(name, _index(asked))
        if not problem:
            notes = notes or ["as it was trained"] * (name == trained_with)
            return _choice(asked if kind == "cuda" else DEVICE_OF[name], name, notes)
        notes.append(
            f"the model was trained with {name}, which can't be had here because {problem}"
            if name == trained_with
            else f"not {'cuda' if name == 'cupy' else name}, because {problem}"
        )
    what = f"backend {backend!r}" if backend else f"device {asked!r}"
    otherwise = "device 'cpu'" if name == "cupy" else "backend 'numpy'"
    raise DeviceError(f"{what} can't be had: {problem}; or use {otherwise}")


def cuda_problem(index: int = 0) -> str:
    """Return in one line why a GPU can't be used and what mends it; the empty text if it can.

    CuPy is imported only where all that can be known without it is well.
    """
    found = driver()
    return found.problem or _gpu_problem(found, index) or _cupy_problem(found) or _smoke_test(index)


def has_precision(choice: Choice, precision: str) -> bool:
    """Return whether a device computes in a precision."""
    return precision in (_ON_CPU if choice.device == "cpu" else PRECISIONS)


def check_precision(choice: Choice, precision: str) -> None:
    """Check that a device computes in a precision.

    Raises:
        InputError: it does not, or there is no such precision.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if not has_precision(choice, precision):
        raise InputError(
            f"precision {precision!r} needs device 'cuda', but this is {choice.reason}; use "
            f"{', '.join(map(repr, _ON_CPU[:-1]))} or {_ON_CPU[-1]!r}"
        )


def inventory() -> Inventory:
    """Return what is on this machine; takes about a second."""
    return Inventory(
        processor=_processor(),
        cores=cores(),
        blas=_blas(),
        mkl=_version("mkl"),
        numba=_version("numba"),
        driver=driver(),
        cupy=next(filter(None, map(_version, _CUPY)), None),
    )


def implementers(kernel: str) -> tuple[str, ...]:
    """Return who implements a kernel: the reference always, then other versions of it.

    CUDA's are listed whether or not there is a GPU.
    """
    from gpubp.kernels.cuda import launch  # noqa: PLC0415

    names = ["reference"]
    if not _numba_problem():
        from gpubp.kernels.numba import entry  # noqa: PLC0415

        names += ["numba"] * entry.implements(kernel)
    return (*names, *["cuda"] * launch.implements(kernel))


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
        return Driver(
            problem="there is no NVIDIA driver; install one (in a container: docker run --gpus all)"
        )
    number = ctypes.c_int()
    try:
        _call(library, "cuDriverGetVersion", ctypes.byref(number))
        version = number.value // 1000, number.value % 1000 // 10
        _call(library, "cuInit", 0)
        _call(library, "cuDeviceGetCount", ctypes.byref(number))
        gpus = tuple(_gpu(library, index) for index in range(number.value))
    except DeviceError as error:
        return Driver(problem=f"the NVIDIA driver fails: {error}; {_look()}")
    return Driver(version, gpus, "" if gpus else f"the NVIDIA driver finds no GPU; {_look()}")


def _look() -> str:
    """Return where to look when the driver is there but the GPUs are not."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = "" if visible is None else f"; unset CUDA_VISIBLE_DEVICES, which is {visible!r}"
    return f"nvidia-smi should list one{hidden}"


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


def _asked(device: str | None) -> tuple[str, str]:
    """Return the device that is asked for, and by whom."""
    asked, source = device or "auto", "as asked"
    if asked == "auto" and os.environ.get(VARIABLE):
        asked, source = os.environ[VARIABLE], f"as {VARIABLE} says"
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", asked):
        raise unknown_name("device", asked, ("auto", "cpu", "cuda", "cuda:0"))
    return asked, source


def _choice(device: str, backend: str, notes: list[str]) -> Choice:
    gpu = "" if device == "cpu" else f" on {driver().gpus[_index(device)].name}"
    why = f" ({'; '.join(notes)})" if notes else ""
    return Choice(device, backend, f"{device} with {backend}{gpu}{why}")


def _index(device: str) -> int:
    """Return the number of a GPU in a device's name, 0 if it has none."""
    return int(device.partition(":")[2] or 0)


def _problem(backend: str, index: int) -> str:
    """Return why a backend can't be used and what mends it, or the empty text."""
    if backend == "cupy":
        return cuda_problem(index)
    return _numba_problem() if backend == "numba" else ""


def _gpu_problem(found: Driver, index: int) -> str:
    """Return why a GPU can't be used, going by what the driver says."""
    from gpubp.kernels.cuda.cupy_driver import OLDEST  # noqa: PLC0415

    count = len(found.gpus)
    if index >= count:
        there = "one GPU, cuda:0" if count == 1 else f"{count} GPUs, cuda:0 to cuda:{count - 1}"
        return f"there is no cuda:{index}, the driver finds {there}; name one that there is"
    gpu = found.gpus[index]
    oldest = divmod(OLDEST, 10)
    if gpu.capability < oldest:
        has, needs = _dotted(gpu.capability), _dotted(oldest)
        return f"{gpu.name} has compute capability {has}, less than {needs}; use another GPU"
    if found.version < DRIVER:
        has, needs = _dotted(found.version), _dotted(DRIVER)
        return f"the driver is for CUDA {has}, older than {needs}; install a newer driver"
    return ""


def _cupy_problem(found: Driver) -> str:
    """Return why CuPy can't be used with a driver and what installs the right one."""
    extra = "cuda13" if found.version >= (13, 0) else "cuda12"
    install = f"pip install 'gpubp[{extra}]'"
    try:
        importlib.import_module("cupy")
    except ImportError as error:
        if getattr(error, "name", "") == "cupy":
            return f"CuPy is not installed; {install}"
        # CuPy's own words are a page, of which the cause is the line that matters.
        said = " ".join(str(error.__cause__ or error).split())
        return f"CuPy can't be imported: {said}; {install}"
    if extra == "cuda12" and _version("cupy-cuda13x"):
        return (
            f"CuPy is that for CUDA 13, but the driver is for CUDA {_dotted(found.version)}; "
            f"pip uninstall cupy-cuda13x, then {install}"
        )
    return ""


def _smoke_test(index: int) -> str:
    """Return why CuPy and CUDA's libraries fail on a GPU and what mends it, tried once."""
    from gpubp.kernels.cuda import cupy_driver  # noqa: PLC0415

    return cupy_driver.problem(index)


def _dotted(version: tuple[int, int]) -> str:
    return "{}.{}".format(*version)


def _numba_problem() -> str:
    """Return why Numba can't be used, or the empty text."""
    try:
        importlib.import_module("numba")
    except ImportError as error:  # not there, or not for this version of NumPy or Python
        return f"Numba can't be imported: {error}; pip install numba"
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
