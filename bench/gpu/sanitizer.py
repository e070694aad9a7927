"""compute-sanitizer on a run of every kernel: memcheck and racecheck."""

from __future__ import annotations

import json
import re
import shutil
from typing import Any

from gpu import process

PROGRAM = "compute-sanitizer"
_TAIL = 4000
# By tool, its options and those of every_kernel. What CuPy asks the driver in vain is no error of
# a kernel; and how NVIDIA's products share memory is NVIDIA's business.
TOOLS: dict[str, tuple[list[str], list[str]]] = {
    "memcheck": (["--report-api-errors", "no"], []),
    "racecheck": ([], ["--no-products"]),
}
# "ERROR SUMMARY: 0 errors", "RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"
_SUMMARY = re.compile(r"^=+ *(?:ERROR|RACECHECK) SUMMARY: (?P<count>\d+) .*$", re.MULTILINE)


def missing() -> str:
    """Return why there is no sanitizer, or nothing."""
    return "" if shutil.which(PROGRAM) else f"{PROGRAM} is not on PATH"


def compile_kernels(deadline: float, *, stand_in: bool) -> dict[str, Any]:
    """Compile every kernel, which fills the cache for what comes after; return how many.

    Raises:
        ProcessError: one does not compile.
    """
    return _json(_every_kernel([], ["--compile"], deadline, stand_in))


def check(tool: str, deadline: float, *, stand_in: bool) -> dict[str, Any]:
    """Return what a tool found.

    Raises:
        ProcessError: it found something, or the kernels did not run under it.
    """
    options, of_kernels = TOOLS[tool]
    before = [PROGRAM, "--tool", tool, *options]
    output = _every_kernel(before, of_kernels, deadline, stand_in)
    found = _SUMMARY.search(output)
    if found is None or int(found["count"]):
        raise process.ProcessError(f"{tool}:\n{output[-_TAIL:]}")
    return {"summary": found[0].strip("= "), **_json(output)}


def _every_kernel(before: list[str], options: list[str], deadline: float, stand_in: bool) -> str:
    command = process.command("-m", "gpu.every_kernel", *options, *["--stand-in"] * stand_in)
    env = process.environment(process.BENCH)
    code, output, in_time = process.run([*before, *command], env, deadline)
    if not in_time:
        raise process.OutOfTimeError(output[-_TAIL:])
    if code:
        raise process.ProcessError(f"exit code {code}:\n{output[-_TAIL:]}")
    return output


def _json(output: str) -> dict[str, Any]:
    """Return the line of JSON in an output."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(lines[-1])
    return found
