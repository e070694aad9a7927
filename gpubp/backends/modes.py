"""Two other ways to run a plan: checked against the reference, and timed call by call.

Both take a bound executable of one share and run its calls one by one, so they work on every
backend. They change the vectors that the executable is bound to, as any step does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.backends.base import Backend, Executable
from gpubp.errors import PlanError
from gpubp.kernels import bfloat16, reference
from gpubp.plan.ir import DATA, Buffer, Call

# How far an output may be from the float64 reference, relative to its largest element: some tens
# of roundings, for a sum of a thousand products is not exact to the last one. bfloat16 and TF32
# round what goes in to 8 and 11 bits.
TOLERANCE = {"float32": 3e-5, "float64": 1e-12, "bfloat16": 1e-2, "tf32": 5e-3}


@dataclass(frozen=True)
class Timing:
    """How long a call takes: the median over steps, seconds."""

    call: Call
    seconds: float

    @property
    def gflops(self) -> float:
        """Billions of floating-point operations a second."""
        return self.call.flops / self.seconds / 1e9

    @property
    def gbytes(self) -> float:
        """Billions of bytes read and written a second."""
        return self.call.bytes / self.seconds / 1e9


@dataclass(frozen=True)
class Trace:
    """The timings of a step's calls, in order."""

    timings: tuple[Timing, ...]

    @property
    def seconds(self) -> float:
        """The sum over the calls."""
        return sum(timing.seconds for timing in self.timings)

    def __str__(self) -> str:
        total = self.seconds
        lines = [f"{'µs':>10} {'share':>6} {'GFLOP/s':>8} {'GB/s':>7}  call"]
        lines += [
            f"{t.seconds * 1e6:10.1f} {t.seconds / total:6.1%} {t.gflops:8.2f} {t.gbytes:7.2f}"
            f"  {t.call.formula or t.call.kernel}"
            for t in self.timings
        ]
        lines.append(f"{total * 1e6:10.1f} {'':6} {'':8} {'':7}  sum")
        return "\n".join(lines)


def validate(executable: Executable, backend: Backend) -> None:
    """Run one step, each call beside its reference in float64 on the same inputs.

    Raises:
        PlanError: a call's output is off; the first such call is named.
    """
    allowed = TOLERANCE["tf32" if backend.tf32 else executable.plan.dtype]
    for index, call in enumerate(executable.plan.calls):
        expected = _expected(executable, backend, call)
        executable.execute(index)
        for name, buffer in call.named().items():
            if name not in expected or buffer is None or name == "mask":
                continue  # a mask is a library's own business, shown by what is computed with it
            got = _values(executable, backend, buffer)
            error = _error(got, expected[name])
            if error > (allowed if got.dtype.kind == "f" else 0):
                raise PlanError(
                    f"call {index}, {call.kernel} ({call.formula}): {name} = {buffer} is off by "
                    f"{error:.2g} of its largest element"
                )


def trace(executable: Executable, steps: int) -> Trace:
    """Run ``steps`` steps and time each call; about 1 µs of each is Python's way there."""
    calls = executable.plan.calls
    seconds = np.zeros((steps, len(calls)))
    for step in range(steps):
        for index in range(len(calls)):
            seconds[step, index] = executable.execute(index)
    medians = np.median(seconds, axis=0)
    return Trace(tuple(Timing(call, float(s)) for call, s in zip(calls, medians, strict=True)))


def _expected(executable: Executable, backend: Backend, call: Call) -> dict[str, NDArray[Any]]:
    """Return what a call should write, by operand: the reference in float64 on copies."""
    copies: dict[Any, NDArray[Any]] = {}  # one for each buffer, so that aliases stay aliases
    operands: list[NDArray[Any] | None] = []
    for declared, buffer in zip(call.contract.operands, call.operands, strict=True):
        if buffer is None:
            operands.append(None)
            continue
        if buffer not in copies:
            host = _values(executable, backend, buffer)
            if buffer.region == DATA and not declared.written:
                copies[buffer] = host
            else:
                copies[buffer] = host.astype(np.float64 if declared.floating else host.dtype)
        operands.append(copies[buffer])
    with np.errstate(all="ignore"):
        reference.function(call.kernel)(*operands, **dict(call.scalars))
    return {
        declared.name: operand
        for declared, operand in zip(call.contract.operands, operands, strict=True)
        if declared.written and operand is not None
    }


def _values(executable: Executable, backend: Backend, buffer: Buffer) -> NDArray[Any]:
    """Return a buffer's numbers on the host; bfloat16 as float32."""
    host = np.asarray(backend.to_host(executable.operand(buffer)))
    return bfloat16.to_float32(host) if buffer.dtype == "bfloat16" else host


def _error(got: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest difference relative to the largest element; infinity where NaNs differ."""
    if got.size == 0:
        return 0.0
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    if same.all():
        return 0.0
    difference = np.abs(np.where(same, 0.0, got - expected))
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
    error = float(difference.max() / max(largest, np.finfo(np.float64).tiny))
    return error if np.isfinite(error) else np.inf
