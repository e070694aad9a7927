"""The readable backend: the reference kernels, call by call, on arrays of one array namespace.

It runs on NumPy, and as it assumes nothing but the array-API standard, on any other library whose
arrays can be written to.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from gpubp.backends.base import Array, Backend, Executable, Outcome, Vectors, part
from gpubp.interrupts import stopping
from gpubp.kernels import bfloat16, reference
from gpubp.kernels.blas_threads import limited, loaded
from gpubp.kernels.spec import kernel as contract
from gpubp.plan.ir import DATA, PARTIALS, Buffer, Call, Plan
from gpubp.plan.memory import place
from gpubp.plan.verify import verify


class NumpyBackend(Backend):
    """Runs plans by the reference kernels.

    Args:
        xp: the array namespace; NumPy by default.
        threads: those of NumPy's matrix products, whose last bits depend on them.
    """

    name = "numpy"

    def __init__(self, xp: Any = np, threads: int = 1) -> None:
        self.xp = xp
        self._threads = threads
        self._blas = loaded() if xp is np else []

    def computing(self) -> AbstractContextManager[None]:
        """Return a context in which matrix products take the backend's threads."""
        return limited(self._blas, self._threads)

    def zeros(self, length: int, dtype: str) -> Array:
        """Return a new flat array of zeros."""
        return self.xp.zeros(length, dtype=getattr(self.xp, bfloat16.stored(dtype)))

    def to_device(self, array: Array) -> Array:
        """Return the array itself, or as one of this namespace."""
        return self.xp.asarray(array)

    def to_host(self, array: Array) -> Any:
        """Return the array as a NumPy array."""
        return np.asarray(array)

    def has(self, call: Call) -> bool:
        """Return False: everything is the reference, and fusing gains nothing."""
        return False

    def call(self, kernel: str, operands: Sequence[Array | None], **scalars: float) -> None:
        """Run the reference of a kernel."""
        declared = contract(kernel).operands
        bits = [
            array is not None and isinstance(bfloat16.seen(operand, array), bfloat16.Form)
            for operand, array in zip(declared, operands, strict=True)
        ]
        with quiet(self.xp), self.computing():
            self.bound(kernel, operands, bits, contract(kernel).bind_scalars(scalars))()

    def bound(
        self,
        kernel: str,
        operands: Sequence[Array | None],
        bits: Sequence[bool],
        scalars: Mapping[str, float],
    ) -> Callable[[], None]:
        """Return the call of a reference; ``bits`` says which operands are those of bfloat16.

        For the reference these are float32, and what it writes to them is rounded once.
        """
        function = reference.function(kernel)
        if not any(bits):
            return partial(function, *operands, **scalars)

        def run() -> None:
            wide = [
                self.to_device(bfloat16.to_float32(self.to_host(array))) if held else array
                for array, held in zip(operands, bits, strict=True)
            ]
            function(*wide, **scalars)
            for declared, array, values in zip(
                contract(kernel).operands, operands, wide, strict=True
            ):
                if array is not None and declared.written and values is not array:
                    array[...] = self.to_device(bfloat16.from_float32(self.to_host(values)))

        return run

    def prepare(self, plans: Sequence[Plan]) -> NumpyExecutable:
        """Return a plan made ready to run."""
        (plan,) = plans  # this backend does not split the minibatch
        return NumpyExecutable(self, plan)


class NumpyExecutable(Executable):
    """A plan as a list of bound functions."""

    def __init__(self, backend: NumpyBackend, plan: Plan) -> None:
        super().__init__([plan])
        self.backend = backend
        self.layout = place(plan)
        self.layouts = (self.layout,)
        verify(plan, self.layout)
        self._transient = {
            dtype: backend.zeros(length, dtype) for dtype, length in self.layout.lengths.items()
        }
        self._partials = backend.zeros(1, "float64")
        self._vectors: dict[str, Array] = {}
        self._functions: list[Callable[[], None]] = []
        self._stop = False

    def bind(self, vectors: Vectors, data: Vectors) -> None:
        """Make every operand a view, once."""
        self._take_data(data)
        self._vectors = {**vectors, PARTIALS: self._partials}
        self._functions = [self._function(call) for call in self.plan.calls]
        self.bound = True

    def release(self) -> None:
        """Let go of the arrays of the last :meth:`bind`."""
        super().release()
        self._vectors, self._functions = {}, []

    def run(self, steps: int) -> Outcome:
        """Run the calls in order, step after step."""
        self._stop = False
        with stopping(self._request_stop), self.backend.computing():
            return self._loop(steps)

    def execute(self, index: int) -> float:
        """Run one call."""
        with quiet(self.backend.xp), self.backend.computing():
            start = time.perf_counter()
            self._functions[index]()
            return time.perf_counter() - start

    def operand(self, buffer: Buffer) -> Array:
        """Return a buffer as a view."""
        if buffer.region == DATA:
            return self.data[buffer.name]
        flat = part(buffer, self._transient, self.layout, self._vectors)
        return self.backend.xp.reshape(flat, buffer.shape)

    def _function(self, call: Call) -> Callable[[], None]:
        operands = [None if buffer is None else self.operand(buffer) for buffer in call.operands]
        bits = [buffer is not None and buffer.dtype == "bfloat16" for buffer in call.operands]
        return self.backend.bound(call.kernel, operands, bits, dict(call.scalars))

    def _request_stop(self) -> None:
        self._stop = True

    def _loop(self, steps: int) -> Outcome:
        update = len(self.plan.forward) + len(self.plan.backward)
        first, then = self._functions[:update], self._functions[update:]
        watched = self.plan.loss is not None and bool(then)
        loss = self.operand(self.plan.loss) if watched and self.plan.loss else None
        with quiet(self.backend.xp):
            for step in range(steps):
                for function in first:
                    function()
                if loss is not None and not math.isfinite(float(loss[0])):
                    return Outcome(step, "not finite")
                for function in then:
                    function()
                if self._stop:
                    return Outcome(step + 1, "stopped")
        return Outcome(steps, "finished")


def quiet(xp: Any) -> Any:
    """Return a context without NumPy's warnings of what is not finite: the loss will show it."""
    return np.errstate(all="ignore") if xp is np else nullcontext()
