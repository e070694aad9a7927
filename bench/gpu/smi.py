"""What nvidia-smi says of the first GPU. It is only asked: no setting is ever changed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

_CLOCKS = ("clocks.sm", "clocks.mem", "temperature.gpu", "power.draw", "utilization.gpu")


def ask(fields: Sequence[str]) -> dict[str, str]:
    """Return fields by name as text; nothing where there is no nvidia-smi, or it does not know."""
    query = f"--query-gpu={','.join(fields)}"
    command = ["nvidia-smi", "-i", "0", query, "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(fields, done.stdout.strip().split(", "), strict=False))


def clocks() -> dict[str, str]:
    """Return clocks, temperature, power and load as they are now."""
    return ask(_CLOCKS)
