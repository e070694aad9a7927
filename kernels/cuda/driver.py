"""The seam between the CUDA path and the machine: memory, launches, products, capture.

All that the CuPy backend does on a device goes through a :class:`Driver`, so that everything above
it (argument packing, grid sizes, offsets, the order of a plan, capture and replay, streaming) can
be tested where there is no GPU. ``cupy_driver.py`` is the real one.

A bfloat16 array is a uint16 array of its bits: no array library that we use has the dtype.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from gpubp.kernels.contract import Shape

Array = Any  # an array of the driver's library
Epilogue = Literal["", "bias", "bias_relu", "relu_delta", "relu_delta_bias_grad", "bias_grad"]


@dataclass(frozen=True)
class Variant:
    """A kernel with the C++ types of its template, and the file that it is in."""

    kernel: str
    family: str  # the .cu file's name
    dtypes: tuple[str, ...]  # such as ("float32", "int64"); () for what is no template


@dataclass(frozen=True)
class Gemm:
    """One shape of c = op(a) op(b), all row-major: c (rows, columns), sums over ``inner``.

    ``transpose_a`` says that a lies as (inner, rows), ``transpose_b`` that b lies as (columns,
    inner). With ``batch`` above 1 all three are stacks. What an epilogue does is said by the
    contract of the kernel ``matmul_<epilogue>``; ``masked``: ``bias_relu`` writes its mask.
    """

    rows: int
    inner: int
    columns: int
    transpose_a: bool
    transpose_b: bool
    dtype: str  # of a and b
    out_dtype: str  # of c
    tf32: bool = False
    accumulate: bool = False
    batch: int = 1
    epilogue: Epilogue = ""
    masked: bool = False


class Graph(ABC):
    """Launches that were captured, to be repeated as one."""

    @abstractmethod
    def launch(self) -> None:
        """Run the captured launches on the current stream; returns before they end."""


class Event(ABC):
    """A point in the work of a stream."""

    @abstractmethod
    def wait(self) -> None:
        """Block the host until that work is done."""

    @abstractmethod
    def seconds_since(self, earlier: Event) -> float:
        """Return the time on the device between two events that are both done."""


class Driver(ABC):
    """One device. Every method but :meth:`active` needs it to be the current one."""

    xp: Any  # the array namespace of its arrays
    index: int  # which device

    @abstractmethod
    def active(self) -> AbstractContextManager[None]:
        """Return a context in which this is the thread's current device."""

    @abstractmethod
    def describe(self) -> str:
        """Return the device's name."""

    @abstractmethod
    def memory(self) -> tuple[int, int]:
        """Return free and total device memory, bytes; what the pool holds unused is free."""

    @abstractmethod
    def zeros(self, length: int, dtype: str) -> Array:
        """Return a new flat array of zeros, aligned to 256 bytes.

        Raises:
            DeviceMemoryError: there is not so much memory.
        """

    @abstractmethod
    def adopt(self, array: Any) -> Any:
        """Return an array that lies on this device as one of the driver's, without a copy.

        Takes what has ``__cuda_array_interface__`` or ``__dlpack__``. An array in host memory comes
        back as a NumPy array, also without a copy.

        Raises:
            DeviceError: it lies on another device.
        """

    @abstractmethod
    def upload(self, array: Any) -> Array:
        """Return a copy of a NumPy array on the device.

        Raises:
            DeviceMemoryError: there is not so much memory.
        """

    @abstractmethod
    def download(self, array: Array) -> Any:
        """Return a copy of a device array as a NumPy array."""

    @abstractmethod
    def address(self, array: Array) -> int:
        """Return where an array lies on the device."""

    @abstractmethod
    def function(self, variant: Variant) -> Any:
        """Return a kernel, compiled at first need and kept on disk."""

    @abstractmethod
    def launch(
        self, function: Any, grid: tuple[int, int], block: int, words: Sequence[int]
    ) -> None:
        """Launch a kernel on the current stream; every argument is one 8-byte word."""

    @abstractmethod
    def product(self, gemm: Gemm) -> Any | None:
        """Return a matrix product made ready to run, or None where the library has none."""

    @abstractmethod
    def multiply(self, product: Any, a: int, b: int, c: int, bias: int, mask: int) -> None:
        """Run a product on the current stream; operands are addresses, 0 for what it has not."""

    @abstractmethod
    def capture(self, record: Callable[[], None]) -> Graph:
        """Return what ``record`` launches as a graph; nothing of it runs yet."""

    @abstractmethod
    def event(self) -> Event:
        """Return an event that comes after all work of the current stream so far."""

    @abstractmethod
    def synchronize(self) -> None:
        """Block the host until the current stream's work is done."""

    @abstractmethod
    def pinned(self, shape: Shape, dtype: str) -> Any:
        """Return a new NumPy array in host memory from which copies need not wait."""

    @abstractmethod
    def copy_beside(self, source: Any, target: Array) -> Event:
        """Start a copy from pinned memory on a stream of its own; return when it will be done."""

    @abstractmethod
    def after(self, event: Event) -> None:
        """Have the current stream's further work wait for an event; the host goes on."""
