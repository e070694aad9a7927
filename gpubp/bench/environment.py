"""What a result depends on: hardware, versions, BLAS, load. No host name and no path."""

from __future__ import annotations

import os
import platform
import re
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from gpubp import devices

PACKAGES = ("gpubp", "numpy", "scipy", "numba", "scikit-learn", "torch", "jax", "optax")
_CUPY = ("cupy-cuda12x", "cupy-cuda13x", "cupy")
_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS")


def describe() -> dict[str, Any]:
    """Return all of it as JSON values; the version of a package that is not there is None."""
    return {
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "blas": _blas(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def of_run(loads: list[list[float]]) -> dict[str, Any]:
    """Return what a document of ``gpubp bench`` says of where it was made.

    ``loads`` are those before and after the run.
    """
    found = describe()
    versions = found.pop("versions")
    cupy = {name: version for name in _CUPY if (version := _version(name))}
    own = {name: versions.pop(name) for name in ("gpubp", "numpy", "numba")}
    return {
        **own, **({"cupy": next(iter(cupy.values()))} if cupy else {}),
        "python": found["python"], "processor": found["cpu"], "cores": devices.cores(),
        "memory_gb": found["memory_gb"], "os": found["system"], "blas": found["blas"],
        "variables": found["variables"], "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "gpus": [gpu.name for gpu in devices.driver().gpus], "load": loads,
        "versions": {name: version for name, version in versions.items() if version},
    }  # fmt: skip


def load() -> list[float]:
    """Return the machine's load: how many processes wanted to run over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def hardware_name() -> str:
    """Return a file name for this kind of machine, such as ``intel-xeon-gold-6338-2-cores``."""
    words = re.sub(r"\((r|tm)\)|@.*|\bcpu\b|\bprocessor\b", " ", processor().lower())
    slug = "-".join(re.findall(r"[a-z0-9]+", words))
    return f"{slug}-{len(os.sched_getaffinity(0))}-cores"


def processor() -> str:
    """Return the processor's name."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _blas() -> list[str]:
    import scipy.linalg  # noqa: F401, PLC0415 (loads SciPy's BLAS, which gpubp calls)
    from threadpoolctl import threadpool_info  # noqa: PLC0415

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    names = {
        f"{pool['prefix']}: {pool['internal_api']} {pool['version']} {pool.get('architecture', '')}"
        for pool in pools
    }
    return sorted(names)
