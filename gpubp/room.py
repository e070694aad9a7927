"""Whether a network's vectors fit into memory: said before any of it is taken."""

from __future__ import annotations

import math
from pathlib import Path

from gpubp.errors import DeviceMemoryError
from gpubp.kernels.contract import WIDE
from gpubp.optimizers import Optimizer
from gpubp.plan.build import ParameterLayout
from gpubp.plan.ir import WIDTHS

_DRAWN = 8  # bytes of a parameter while it is drawn, on the host


def check(
    layout: ParameterLayout, optimizer: Optimizer, dtype: str, *, on_host: bool, device: float
) -> None:
    """Check that the vectors over a network's parameters fit into memory.

    They are the parameters, their gradients and the optimizer's state, each of ``layout.size``
    elements; with bfloat16 also the rounded parameters. Beside them parameters are drawn in float64
    and brought into their order, on the host.

    Args:
        layout: of the parameters.
        optimizer: which has so many vectors.
        dtype: that the network multiplies with.
        on_host: whether the vectors are in the machine's memory, and not in a device's.
        device: bytes that are free on the device; infinite if that is the machine.

    Raises:
        DeviceMemoryError: they don't.
    """
    wide = WIDTHS[WIDE[dtype]]
    vectors = (2 + len(optimizer.state)) * wide * layout.size
    vectors += 0 if WIDE[dtype] == dtype else WIDTHS[dtype] * layout.size
    drawing = _DRAWN * layout.count + wide * layout.size
    on_machine = drawing + (vectors if on_host else 0)
    for need, free, where in (
        (vectors, device, "device"),
        (on_machine, available(), "machine"),
    ):
        if need > free:
            raise DeviceMemoryError(
                f"the network has {layout.count:,} parameters and needs {said(need)} of memory "
                f"with its gradients and the state of {type(optimizer).__name__}, but the {where} "
                f"has {said(free)} free; use fewer or narrower layers"
            )


def available(root: Path = Path("/")) -> float:
    """Return the bytes of memory that this machine has free, swap included, within its group.

    Infinite where the system does not say.
    """
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        sizes = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
        free: float = 1024 * (sizes["MemAvailable"] + sizes.get("SwapFree", 0))
    except (OSError, ValueError, LookupError):
        free = math.inf
    group = root / "sys/fs/cgroup"
    try:
        limit, used = (
            int((group / f"memory.{name}").read_text(encoding="ascii"))
            for name in ("max", "current")
        )
        cached = dict(x.split() for x in (group / "memory.stat").read_text("ascii").splitlines())
        return min(free, limit - used + int(cached["inactive_file"]))
    except (OSError, ValueError, LookupError):  # no such group, or "max": no limit
        return free


def said(count: float) -> str:
    """Return a number of bytes in words."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.3g} {unit}" if count < 1e15 else f"{count / size:,.0f} {unit}"
    return f"{count:,.0f} bytes"
