"""The CUDA backend: a plan's launches captured in a graph, and nothing of Python in a step.

All that a launch needs (addresses, lengths, grids) is worked out when an executable is bound. What
changes from step to step (row, step, learning rate, sums) lives in device memory, so a step is the
replay of a graph, and steps follow each other without the host. A step whose loss is not finite
updates nothing, nor does any after it, because the loss sum stays so; the host sees it at the end
of the run.

It computes through a :class:`~gpubp.kernels.cuda.driver.Driver`, and so on CuPy or on a stand-in.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from gpubp.backends.base import Array, Backend, Executable, Outcome, Vectors, part
from gpubp.backends.window import Window
from gpubp.errors import DeviceError
from gpubp.interrupts import stopping
from gpubp.kernels.cuda import eager, launch
from gpubp.kernels.cuda.driver import Driver, Event, Graph
from gpubp.plan.build import ROW
from gpubp.plan.ir import DATA, PARTIALS, WIDTHS, Buffer, Call, Plan
from gpubp.plan.memory import Layout, place
from gpubp.plan.verify import verify

# Elements: 256 bytes of bfloat16, the alignment for which cuBLASLt has all its algorithms.
ALIGNMENT = 128

_AHEAD_SECONDS = 0.02  # about how much work is queued at a time, so that Ctrl-C is soon heard


class CupyBackend(Backend):
    """Runs plans in CUDA graphs.

    Args:
        driver: the device.
        tf32: whether float32 products may round their operands to TF32 (10 bits of mantissa).
    """

    name = "cupy"
    alignment = ALIGNMENT

    def __init__(self, driver: Driver, *, tf32: bool = False) -> None:
        self.driver = driver
        self.tf32 = tf32
        self.xp = driver.xp

    def active(self) -> AbstractContextManager[None]:
        """Return a context in which the device is the current one."""
        return self.driver.active()

    def zeros(self, length: int, dtype: str) -> Array:
        """Return a new flat device array of zeros."""
        return self.driver.zeros(length, dtype)

    def adopt(self, array: Any) -> Any:
        """Return an array of this device as CuPy's, one in host memory as NumPy's; no copies."""
        return self.driver.adopt(array)

    def holds(self, array: Any) -> bool:
        """Return whether an adopted array is on the device."""
        return not isinstance(array, np.ndarray)

    def to_device(self, array: Array) -> Array:
        """Return a device array itself, a NumPy array as a copy on the device."""
        return self.driver.upload(array) if isinstance(array, np.ndarray) else array

    def to_host(self, array: Array) -> Any:
        """Return a copy as a NumPy array."""
        return self.driver.download(array)

    def free_memory(self) -> float:
        """Return the bytes of device memory that are free."""
        return self.driver.memory()[0]

    def memory_of(self, plan: Plan) -> int:
        """Return the bytes of device memory that a plan needs for itself."""
        return Needs.of(plan).bytes

    def window(self, arrays: Mapping[str, Any], count: int, block: int) -> Window:
        """Return a window on host arrays that do not fit on the device."""
        return Window(self.driver, arrays, count, block)

    def has(self, call: Call) -> bool:
        """Return whether there is a CUDA kernel, or a product of this very shape and dtype."""
        if launch.is_product(call.kernel):
            return self.product(call) is not None
        return launch.implements(call.kernel)

    def product(self, call: Call) -> Any | None:
        """Return a product made ready, or None where the library has none."""
        shapes = [None if b is None else (b.shape, b.dtype) for b in call.operands]
        scalars = dict(call.scalars)
        return self.driver.product(launch.gemm(call.contract, shapes, scalars, tf32=self.tf32))

    def call(self, kernel: str, operands: Sequence[Array | None], **scalars: float) -> None:
        """Run one kernel."""
        eager.run(self.driver, kernel, operands, scalars, tf32=self.tf32)

    def prepare(self, plans: Sequence[Plan]) -> CupyExecutable:
        """Return a plan made ready to run."""
        (plan,) = plans  # a GPU has the whole minibatch
        return CupyExecutable(self, plan)


@dataclass(frozen=True)
class Needs:
    """The memory of an executable: the places of transient buffers, and scratch for reductions."""

    layout: Layout
    partials: int  # of the call that needs most; calls run one after the other
    tickets: int

    @classmethod
    def of(cls, plan: Plan) -> Needs:
        """Return what a plan needs."""
        scratch = [_scratch_of(call) for call in plan.calls]
        return cls(
            place(plan, alignment=ALIGNMENT),
            *(max(1, *most) for most in zip(*scratch, strict=True)),
        )

    @property
    def bytes(self) -> int:
        """Bytes of device memory."""
        transient = sum(WIDTHS[dtype] * n for dtype, n in self.layout.lengths.items())
        return transient + 8 * (self.partials + 1) + 4 * self.tickets


def _scratch_of(call: Call) -> tuple[int, int]:
    places = [None if b is None else launch.Place(0, b.shape, b.dtype) for b in call.operands]
    return launch.scratch_of(call.contract, places, dict(call.scalars))


class CupyExecutable(Executable):
    """A plan's launches, and graphs of them."""

    def __init__(self, backend: CupyBackend, plan: Plan) -> None:
        super().__init__([plan])
        self.driver = backend.driver
        self.backend = backend
        needs = Needs.of(plan)
        self.layout = needs.layout
        self.layouts = (self.layout,)
        verify(plan, self.layout, alignment=ALIGNMENT)
        zeros = self.driver.zeros
        self._transient = {
            dtype: zeros(length, dtype) for dtype, length in self.layout.lengths.items()
        }
        self._partials = zeros(1, "float64")
        self._sums, self._tickets = zeros(needs.partials, "float64"), zeros(needs.tickets, "uint32")
        self._vectors: dict[str, Array] = {}
        self._launches: list[Callable[[], None]] = []
        self._graphs: dict[int, Graph] = {}
        self._per_graph = StepsPerGraph()
        self._warm = self._stop = False

    def bind(self, vectors: Vectors, data: Vectors) -> None:
        """Work out every launch with the addresses of these arrays."""
        self._take_data(data)
        self._vectors = {**vectors, PARTIALS: self._partials}
        self._graphs.clear()
        self._launches = [self._prepared(call) for call in self.plan.calls]
        self.bound = True

    def release(self) -> None:
        """Let go of the arrays of the last :meth:`bind`, and of the graphs that read them."""
        super().release()
        self._vectors, self._launches = {}, []
        self._graphs.clear()

    def run(self, steps: int) -> Outcome:
        """Run the steps as graphs; the host waits at the end alone."""
        self._stop = False
        watched = self.plan.loss if self.plan.update else None
        row = self._number(ROW) if watched else 0
        with stopping(self._request_stop):
            done = self._queue(steps)
            self.driver.synchronize()
        if watched and not math.isfinite(self._number(watched)):
            return Outcome(int(self._number(ROW) - row) // self.plan.rows, "not finite")
        return Outcome(done, "stopped" if self._stop else "finished")

    def execute(self, index: int) -> float:
        """Run one call; return how long it took on the device."""
        start = self.driver.event()
        self._launches[index]()
        end = self.driver.event()
        end.wait()
        return end.seconds_since(start)

    def operand(self, buffer: Buffer) -> Array:
        """Return a buffer as a view; one of bfloat16 as its bits."""
        if buffer.region == DATA:
            return self.data[buffer.name]
        return part(buffer, self._transient, self.layout, self._vectors).reshape(buffer.shape)

    def step(self) -> None:
        """Launch the calls of one step in order, as a graph does when it is replayed."""
        for start in self._launches:
            start()

    def _prepared(self, call: Call) -> Callable[[], None]:
        """Return the function that launches a call."""
        places = self._places(call)
        kernel, scalars = call.contract, dict(call.scalars)
        if launch.is_product(call.kernel):
            product = self.backend.product(call)
            if product is None:  # a plain one: one with an epilogue is in a plan if it can be had
                raise DeviceError(
                    f"{self.driver.describe()} has no matrix product for {call.formula!r} in "
                    f"{self.plan.dtype}; bfloat16 takes compute capability 8.0, so use another "
                    "precision"
                )
            return partial(launch.multiply, self.driver, product, kernel, places)
        address = self.driver.address
        scratch = launch.Scratch(address(self._sums), address(self._tickets))
        watched = self.plan.loss if self.plan.update else None
        guard = address(self.operand(watched)) if watched else 0
        made = launch.launch(kernel, places, scalars, guard=guard, scratch=scratch)
        function = self.driver.function(made.variant)
        return partial(self.driver.launch, function, made.grid, made.block, made.words)

    def _places(self, call: Call) -> list[launch.Place | None]:
        return [
            None if b is None else launch.place_of(self.driver, self.operand(b), b.dtype)
            for b in call.operands
        ]

    def _queue(self, steps: int) -> int:
        """Queue steps, a little ahead of the device; return how many before Ctrl-C."""
        done = 0
        if not self._warm:
            # Libraries load their code at the first launch, which a capture does not allow.
            self.step()
            self.driver.synchronize()
            self._warm, done = True, 1
        ends: deque[Event] = deque()
        while done < steps and not self._stop:
            count = self._per_graph.measure(steps - done, self._replay, self.driver)
            if not count:
                count = min(steps - done, max(16, self.steps_in(_AHEAD_SECONDS)))
                self._replay(count, self._per_graph.best)
            done += count
            ends.append(self.driver.event())
            if len(ends) > 2:
                ends.popleft().wait()
        return done

    def _replay(self, steps: int, per_graph: int) -> None:
        """Launch graphs of ``per_graph`` steps, and for what is left over graphs of one."""
        for size, count in ((per_graph, steps // per_graph), (1, steps % per_graph)):
            if count and size not in self._graphs:
                self._graphs[size] = self.driver.capture(lambda: self._steps(size))  # noqa: B023
            for _ in range(count):
                self._graphs[size].launch()

    def _steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def _number(self, buffer: Buffer) -> float:
        return float(self.driver.download(self.operand(buffer))[0])

    def _request_stop(self) -> None:
        self._stop = True


class StepsPerGraph:
    """Finds by measurement how many steps a graph should hold; the results are the same bits.

    A graph of several steps saves gaps between launches, and costs memory and time to capture.
    Runs that are too short to tell keep to one step a graph.
    """

    MANY = 16
    SAMPLE = 64  # steps that each way is timed over

    def __init__(self) -> None:
        self.best = 1
        self._known = False

    def measure(self, steps: int, replay: Callable[[int, int], None], driver: Driver) -> int:
        """Time both ways, if that was not done and there are steps for it; return steps done."""
        needed = 1 + self.MANY + 2 * self.SAMPLE
        if self._known or steps < needed:
            return 0
        self._known = True
        for per_graph in (1, self.MANY):  # the first time a graph is captured, and is slower
            replay(per_graph, per_graph)
        marks = [driver.event()]
        for per_graph in (1, self.MANY):
            replay(self.SAMPLE, per_graph)
            marks.append(driver.event())
        marks[-1].wait()
        single, many = (later.seconds_since(mark) for mark, later in pairwise(marks))
        self.best = self.MANY if many < single else 1
        return needed
