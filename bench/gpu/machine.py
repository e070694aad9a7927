"""What a result depends on: GPU, driver, clocks, libraries and the host. No host name, no path."""

from __future__ import annotations

import subprocess
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lend

import gpubp
from gpu import smi
from gpubp.bench import environment
from gpubp.kernels.cuda import cupy_driver

PACKAGES = (
    "numpy", "scipy", "numba", "scikit-learn", "safetensors", "rich", "pytest", "cupy-cuda12x",
    "cupy-cuda13x", "nvidia-cublas", "nvidia-cuda-nvrtc", "array-api-compat", "click", "matplotlib",
    "hypothesis", "array-api-strict", "ml_dtypes", "torch", "triton", "jax", "jaxlib",
)  # fmt: skip
# What does not change by itself: clocks and temperature are noted beside each part.
_ASKED = (
    "name", "driver_version", "memory.total", "clocks.max.sm", "clocks.max.mem", "power.limit",
    "mig.mode.current", "ecc.mode.current", "compute_mode", "persistence_mode",
)  # fmt: skip
_ATTRIBUTES = {"Multiprocessors": "MultiProcessorCount", "L2 bytes": "L2CacheSize"}


class Machine:
    """This machine.

    Args:
        stand_in: describe the stand-in instead of a GPU.
    """

    def __init__(self, stand_in: bool) -> None:
        self._stand_in = stand_in

    def describe(self) -> dict[str, Any]:
        """Return all of it; ``problem`` says why the GPU can't be used, or nothing."""
        problem = "" if self._stand_in else cupy_driver.problem(0)
        host = environment.describe()
        del host["versions"]  # of other packages
        versions = {name: _version(name) for name in PACKAGES}
        return {
            "gpu": {"name": "stand-in"} if self._stand_in else _gpu(problem),
            "problem": problem,
            "host": host,
            "gpubp": {
                "version": gpubp.__version__,
                "from": "source tree" if "gpubp" in lend.lent else "installed package",
                "commit": _commit(),
            },
            "versions": {name: version for name, version in versions.items() if version},
            "missing": [name for name, version in versions.items() if not version],
            "lent": sorted(lend.lent),
        }


def _gpu(problem: str) -> dict[str, Any]:
    found: dict[str, Any] = dict(smi.ask(_ASKED))
    if find_spec("cupy") is None or problem:
        return found
    import cupy  # noqa: PLC0415

    device, runtime = cupy.cuda.Device(0), cupy.cuda.runtime
    attributes = device.attributes
    return found | {
        "name": runtime.getDeviceProperties(0)["name"].decode(),
        "capability": device.compute_capability,
        "cuda_driver": runtime.driverGetVersion(),
        "cuda_runtime": runtime.runtimeGetVersion(),
        "nvrtc": list(cupy.cuda.nvrtc.getVersion()),
        **{name: attributes[key] for name, key in _ATTRIBUTES.items() if key in attributes},
    }


def _commit() -> str | None:
    """Return the commit of the source tree, marked if it was changed since; None without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
