"""What a backend is: memory, transfer, and a plan made ready to run.

The trainer keeps the vectors that outlive a step (parameters, gradients, optimizer state, counters,
sums) as flat arrays of the backend, by region; an executable owns only its transient memory.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpubp.errors import PlanError
from gpubp.kernels.bfloat16 import stored
from gpubp.kernels.contract import dtype_name
from gpubp.plan.build import Rows
from gpubp.plan.ir import ANY, TRANSIENT, Buffer, Call, Plan
from gpubp.plan.memory import Layout

if TYPE_CHECKING:
    from gpubp.backends.window import Window

Array = Any  # an array of the backend's own library
Choices = Mapping[str, Mapping[str, str]]  # by kind and name; JSON
Vectors = Mapping[str, Array]  # flat arrays by region: "params", "grads", "m", "counters", ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended: after how many finished steps, and why."""

    steps: int
    reason: Literal["finished", "stopped", "not finite"]


class Executable(ABC):
    """Plans, one a share of the minibatch, made ready to run on a backend."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.plans = tuple(plans)
        self.plan = plans[0]
        self.data: dict[str, Array] = {}
        self.layouts: tuple[Layout, ...] = ()  # of the plans
        self.bound = False  # wholly, which after a Ctrl-C in between it may not be
        self._known_steps, self._known_seconds = 0, 0.0  # of the last run

    @property
    def bytes(self) -> int:
        """The bytes that the plans' transient buffers take."""
        return sum(
            np.dtype(stored(dtype)).itemsize * length
            for layout in self.layouts
            for dtype, length in layout.lengths.items()
        )

    def steps_in(self, seconds: float) -> int:
        """Return how many steps would take so long, going by the last run; 1 before the first.

        Never many times more than that run had, for a short run says little.
        """
        if not self._known_steps:
            return 1
        fitting = seconds * self._known_steps / max(self._known_seconds, 1e-6)
        return max(1, int(min(fitting, 8 * self._known_steps)))

    def timed_run(self, steps: int) -> Outcome:
        """Run steps and keep how long they took."""
        started = time.perf_counter()
        outcome = self.run(steps)
        self._known_steps, self._known_seconds = steps, time.perf_counter() - started
        return outcome

    def is_bound_to(self, data: Vectors) -> bool:
        """Return whether the last :meth:`bind` was to these very arrays."""
        same = self.data.keys() == data.keys() and all(self.data[n] is data[n] for n in data)
        return self.bound and same

    def _take_data(self, data: Vectors) -> None:
        """Keep the arrays that a subclass binds.

        Kernels read them by address, with the dtype and shape that the plan says and whatever is
        there. So what came is checked here, not what was asked for.

        Raises:
            PlanError: an array that the plan needs is not among them, or is not what it needs.
        """
        needed = self.plan.data()
        missing = needed.keys() - data.keys()
        if missing:
            raise PlanError(f"the plan needs data {sorted(missing)} to be bound")
        for name, buffer in needed.items():
            _check_array(name, data[name], buffer)
        self.data, self.bound = dict(data), False

    @abstractmethod
    def bind(self, vectors: Vectors, data: Vectors) -> None:
        """Connect the plans to the vectors that outlive a step and to the user's arrays.

        The arrays must stay where they are and may change their values between runs. Each share
        adds to a slot of its own in the sums and counts, so that nothing depends on how a caller
        cuts its steps into runs.

        Raises:
            PlanError: an array that the plan needs is not among them.
        """

    def release(self) -> None:
        """Let go of the arrays of the last :meth:`bind`, so that their memory can be used again."""
        self.data, self.bound = {}, False

    @abstractmethod
    def run(self, steps: int) -> Outcome:
        """Run ``steps`` steps; on KeyboardInterrupt finish the one under way and raise it again."""

    @abstractmethod
    def execute(self, index: int) -> float:
        """Run one call of the first plan; return how long it took, in seconds."""

    @abstractmethod
    def operand(self, buffer: Buffer) -> Array:
        """Return a buffer of the first plan as an array, a view."""


def _check_array(name: str, array: Array, buffer: Buffer) -> None:
    """Check that an array is what a plan reads by its address, or writes."""
    found = dtype_name(array.dtype), tuple(array.shape)
    fits = len(array.shape) == len(buffer.shape) and all(
        wanted in (ANY, length) for wanted, length in zip(buffer.shape, array.shape, strict=True)
    )
    if found[0] != buffer.dtype or not fits:
        wanted = ", ".join("any" if length == ANY else str(length) for length in buffer.shape)
        raise PlanError(
            f"{name} is {found[0]} of shape {found[1]}, the plan reads {buffer.dtype} of shape "
            f"({wanted})"
        )
    flags = getattr(array, "flags", None)  # absent where the library computes and not the address
    if not getattr(flags, "c_contiguous", True) or not getattr(flags, "aligned", True):
        raise PlanError(f"{name} is not C-contiguous and aligned, as the plan reads it")


class Backend(ABC):
    """One way to compute."""

    name: str
    xp: Any  # the array namespace of its arrays
    max_shares: int = 1  # into how many shares it may split a minibatch
    alignment: int = 1  # at multiples of so many elements it wants parameters to start
    tf32: bool = False  # whether float32 products round their operands to TF32
    _choices: Choices = MappingProxyType({})

    def active(self) -> AbstractContextManager[None]:
        """Return a context in which its device is the current one; all else needs that."""
        return nullcontext()

    @abstractmethod
    def zeros(self, length: int, dtype: str) -> Array:
        """Return a new flat array of zeros."""

    def adopt(self, array: Any) -> Any:
        """Return an array of any library as one that the checks at the door can read, uncopied."""
        return array

    def finite(self, *vectors: Array) -> bool:
        """Return whether all elements of vectors of the backend's are finite."""
        if self.xp is np:  # a sum is one pass without a temporary, and rarely overflows
            with np.errstate(over="ignore", invalid="ignore"):
                if math.isfinite(sum(float(np.add.reduce(vector)) for vector in vectors)):
                    return True
        return all(bool(self.xp.all(self.xp.isfinite(vector))) for vector in vectors)

    def holds(self, array: Any) -> bool:
        """Return whether an adopted array is on the device, so that it need not be moved."""
        return False

    def free_memory(self) -> float:
        """Return the bytes of device memory that are free; infinite where device is host."""
        return math.inf

    def memory_of(self, plan: Plan) -> int:
        """Return the bytes of device memory that an executable of a plan needs for itself."""
        return 0

    def window(self, arrays: Mapping[str, Any], count: int, block: int) -> Window:
        """Return a window on host arrays that do not fit on the device."""
        raise NotImplementedError  # nothing is too large where host and device are one

    @abstractmethod
    def to_device(self, array: Array) -> Array:
        """Return a host array, or one of the backend's own, as one of the backend's own."""

    @abstractmethod
    def to_host(self, array: Array) -> Any:
        """Return an array of the backend as a NumPy array."""

    @abstractmethod
    def has(self, call: Call) -> bool:
        """Return whether the backend has a version of its own for a call: kernel, shape, dtype."""

    @abstractmethod
    def call(self, kernel: str, operands: Sequence[Array | None], **scalars: float) -> None:
        """Run one kernel on arrays of the backend."""

    def shuffle(self, count: int, stream: int) -> Callable[[int, int], Array]:
        """Return what draws an order of ``count`` rows for a seed and a step.

        Every index gets a random 32-bit word; the order is that of the words, and of the indices
        where they are equal: the same on every backend. The next call may overwrite the array that
        it returns.
        """
        words = self.xp.empty(count, dtype=self.xp.uint32)

        def draw(seed: int, step: int) -> Array:
            key = [self.xp.asarray([value], dtype=self.xp.int64) for value in (seed, step)]
            self.call("random_bits", [*key, words], stream=stream)
            return self.argsort(words)

        return draw

    def argsort(self, words: Array) -> Array:
        """Return the indices that sort words (uint32), equal ones as they are; int64."""
        xp = self.xp
        # The index below its word makes it unique: not every library has a stable sort.
        high = xp.astype(words, xp.uint64) * xp.asarray(1 << 32, dtype=xp.uint64)
        keys = xp.sort(high + xp.arange(words.shape[0], dtype=xp.uint64))
        return xp.astype(keys & xp.asarray(0xFFFFFFFF, dtype=xp.uint64), xp.int64)

    @abstractmethod
    def prepare(self, plans: Sequence[Plan]) -> Executable:
        """Return plans made ready to run: those that :meth:`split` returned."""

    def split(self, plan: Plan, part: Callable[[Rows], Plan]) -> tuple[Plan, ...]:
        """Return plans for the shares of a minibatch; by default the one for all of it.

        ``part`` makes the plan for some of the rows.
        """
        return (plan,)

    def explain(self, plans: Sequence[Plan]) -> tuple[str, list[str]]:
        """Return how it runs plans that :meth:`split` returned, and each call of the first.

        The empty text where there is nothing to be said.
        """
        return "", [""] * len(plans[0].calls)

    def choices(self) -> Choices:
        """Return what results depend on and a backend has chosen, for a checkpoint."""
        return dict(self._choices)

    def restore_choices(self, choices: Choices) -> None:
        """Take over choices; who does not know them passes them on all the same.

        Raises:
            InputError: they can't be what :meth:`choices` returned.
        """
        self._choices = choices


def part(buffer: Buffer, transient: Vectors, layout: Layout, vectors: Vectors) -> Array:
    """Return a buffer's part of its vector: its dtype's arena, or one that outlives a step."""
    if buffer.region == TRANSIENT:
        flat, start = transient[buffer.dtype], layout.offsets[buffer]
    else:
        flat, start = vectors[buffer.region], buffer.offset
    return flat[start : start + buffer.size]
