"""The driver of a real GPU: CuPy's memory, streams, modules and graphs; cuBLASLt for products.

CuPy is imported when a driver is made, so :func:`problem` can be asked where it is not installed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from gpubp.errors import DeviceError, DeviceMemoryError
from gpubp.kernels.bfloat16 import to_float32
from gpubp.kernels.contract import Shape, size
from gpubp.kernels.cuda import cublaslt, sources
from gpubp.kernels.cuda.driver import Array, Driver, Event, Gemm, Graph, Variant

OLDEST = 75  # compute capability 7.5, Turing: what CUDA 13 still supports

# CuPy adds -ftz=true, and --device-as-default-execution-space, which lambdas in kernels need.
OPTIONS = ("-std=c++17",)
_CUDA, _CUDA_MANAGED = 2, 13  # DLPack's device types
_HOST, _HOST_PINNED = 1, 3

_PROBE = "template <class T> __global__ void probe(T* x) { *x += T(1); }"


class CupyDriver(Driver):
    """One GPU through CuPy.

    Args:
        index: which device, as CUDA counts them.
    """

    def __init__(self, index: int) -> None:
        import cupy  # noqa: PLC0415

        self.xp = cupy
        self.index = index
        self._lock = threading.RLock()
        self._functions: dict[Variant, Any] = {}
        self._products: dict[Gemm, cublaslt.Product | _Zeros | None] = {}
        self._keeping_nan: dict[Gemm, bool] = {}
        self._blas: cublaslt.Handle | None = None
        self._workspace: _Workspace | None = None
        with self.active():
            self._copies = cupy.cuda.Stream(non_blocking=True)

    def active(self) -> AbstractContextManager[None]:
        """Return a context in which this is the thread's current device."""
        device: AbstractContextManager[None] = self.xp.cuda.Device(self.index)
        return device

    def describe(self) -> str:
        """Return the device's name."""
        name: bytes = self.xp.cuda.runtime.getDeviceProperties(self.index)["name"]
        return name.decode()

    def memory(self) -> tuple[int, int]:
        """Return free and total device memory, bytes; what the pool holds unused is free."""
        free, total = self.xp.cuda.runtime.memGetInfo()
        pool = self.xp.get_default_memory_pool()
        free += pool.free_bytes()
        limit = pool.get_limit()  # 0: none
        return (min(free, max(0, limit - pool.used_bytes())) if limit else free), total

    def zeros(self, length: int, dtype: str) -> Array:
        """Return a new flat array of zeros; the pool aligns to 512 bytes."""
        dtype = "uint16" if dtype == "bfloat16" else dtype
        with self._memory_for(length * np.dtype(dtype).itemsize):
            return self.xp.zeros(length, dtype)

    def adopt(self, array: Any) -> Any:
        """Return a device array as CuPy's and one in host memory as NumPy's, without a copy.

        DLPack comes first: with it producer and consumer order their streams.
        """
        if isinstance(array, np.ndarray):
            return array
        kind, index = _device_of(array)
        if kind in (_HOST, _HOST_PINNED):
            return np.from_dlpack(array)
        if kind in (_CUDA, _CUDA_MANAGED):
            owned = isinstance(array, self.xp.ndarray)
            adopted = array if owned else self.xp.from_dlpack(array)
        elif hasattr(array, "__cuda_array_interface__"):
            adopted = self.xp.asarray(array)
            index = adopted.device.id
        elif kind is None:
            return np.asarray(array)
        else:
            raise DeviceError(
                f"the array lies on a device of DLPack type {kind}, which is neither the host nor "
                "CUDA; copy it to the host first"
            )
        if index != self.index:
            raise DeviceError(
                f"the array lies on cuda:{index} and is needed on cuda:{self.index}; copy it "
                f"there, or compute with device='cuda:{index}'"
            )
        return adopted

    def upload(self, array: Any) -> Array:
        """Return a C-contiguous copy of a NumPy array on the device."""
        with self._memory_for(array.nbytes):
            return self.xp.array(array, order="C")

    def download(self, array: Array) -> Any:
        """Return a copy of a device array as a NumPy array."""
        return self.xp.asnumpy(array)

    def address(self, array: Array) -> int:
        """Return where an array lies on the device."""
        return int(array.data.ptr)

    def function(self, variant: Variant) -> Any:
        """Return a kernel, compiled at first need; CuPy keeps it on disk by its source text."""
        with self._lock:
            if variant not in self._functions:
                text, name = sources.text(variant.family), sources.expression(variant)
                self._functions[variant] = self.compile(text, name)
            return self._functions[variant]

    def compile(self, text: str, name: str) -> Any:
        """Return a kernel of a source text by its C++ name."""
        module = self.xp.RawModule(code=text, options=OPTIONS, name_expressions=(name,))
        return module.get_function(name)

    def launch(
        self, function: Any, grid: tuple[int, int], block: int, words: Sequence[int]
    ) -> None:
        """Launch a kernel on the current stream."""
        function(grid, (block,), tuple(np.array(words, np.int64)))

    def product(self, gemm: Gemm) -> Any | None:
        """Return a matrix product made ready to run, or None where cuBLASLt has none.

        Nor is there one with a ReLU that swallows NaN: training must see it.
        """
        with self._lock:
            if gemm not in self._products:
                self._products[gemm] = self._new_product(gemm)
            return self._products[gemm]

    def multiply(self, product: Any, a: int, b: int, c: int, bias: int, mask: int) -> None:
        """Run a product on the current stream."""
        if isinstance(product, _Zeros):
            stream = self.xp.cuda.get_current_stream().ptr
            if product.bytes:
                self.xp.cuda.runtime.memsetAsync(c, 0, product.bytes, stream)
            return
        assert self._workspace is not None  # there is a product, so there is a workspace
        with self._workspace.turn() as stream:
            product.run(a, b, c, bias, mask, self._workspace.address, stream.ptr)

    def capture(self, record: Callable[[], None]) -> Graph:
        """Return what ``record`` launches as a graph, already on the device."""
        # Not the current stream: the default one can't be captured.
        stream = self.xp.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            try:
                record()
            except BaseException:
                with suppress(self.xp.cuda.runtime.CUDARuntimeError):
                    stream.end_capture()
                raise
            graph = stream.end_capture()
        graph.upload()
        return _Graph(graph, self._workspace)

    def event(self) -> Event:
        """Return an event that comes after all work of the current stream so far."""
        return _Event(self.xp.cuda, self.xp.cuda.get_current_stream().record())

    def synchronize(self) -> None:
        """Block the host until the current stream's work is done."""
        self.xp.cuda.get_current_stream().synchronize()

    def pinned(self, shape: Shape, dtype: str) -> Any:
        """Return a new NumPy array in page-locked host memory."""
        kind = np.dtype("uint16" if dtype == "bfloat16" else dtype)
        memory = self.xp.cuda.alloc_pinned_memory(max(1, size(shape) * kind.itemsize))
        return np.ndarray(shape, kind, buffer=memory)

    def copy_beside(self, source: Any, target: Array) -> Event:
        """Start a copy from pinned memory on the copy stream, whatever the current one does."""
        target.set(source, stream=self._copies)
        return _Event(self.xp.cuda, self._copies.record())

    def after(self, event: Event) -> None:
        """Have the current stream's further work wait for an event."""
        assert isinstance(event, _Event)
        self.xp.cuda.get_current_stream().wait_event(event.event)

    def _new_product(self, gemm: Gemm) -> cublaslt.Product | _Zeros | None:
        if cublaslt.is_empty(gemm) and not gemm.epilogue:
            kind = np.dtype("uint16" if gemm.out_dtype == "bfloat16" else gemm.out_dtype)
            elements = gemm.batch * gemm.rows * gemm.columns
            return _Zeros(0 if gemm.accumulate else elements * kind.itemsize)
        product = self._handle().product(gemm)
        if product and gemm.epilogue == "bias_relu" and not self._relu_keeps_nan(gemm):
            return None
        return product

    def _handle(self) -> cublaslt.Handle:
        if self._blas is None:
            hopper = int(self.xp.cuda.Device(self.index).compute_capability) >= 90
            # On Hopper as much as cuBLAS itself takes, on others twice that.
            memory = self.zeros((32 if hopper else 8) << 20, "uint8")
            self._workspace = _Workspace(self.xp.cuda, memory)
            self._blas = cublaslt.Handle(memory.nbytes)
        return self._blas

    def _relu_keeps_nan(self, gemm: Gemm) -> bool:
        """Whether NaN comes through the ReLU of products of this type; tried once, on a small one.

        NVIDIA says of the epilogue max(x, 0), and CUDA's fmax(NaN, 0) is 0.
        """
        small = replace(gemm, rows=64, inner=64, columns=128, batch=1, accumulate=False)
        if small not in self._keeping_nan:
            self._keeping_nan[small] = self._try_nan(small)
        return self._keeping_nan[small]

    def _try_nan(self, gemm: Gemm) -> bool:
        product = self._handle().product(gemm)
        if product is None:
            return False
        zeros, address = self.zeros, self.address
        a = zeros(gemm.rows * gemm.inner, gemm.dtype)
        a.fill(0x7FC0 if gemm.dtype == "bfloat16" else np.nan)
        b = zeros(gemm.inner * gemm.columns, gemm.dtype)
        c = zeros(gemm.rows * gemm.columns, gemm.out_dtype)
        bias = zeros(gemm.columns, gemm.dtype)
        mask = zeros(gemm.rows * gemm.columns // 8, "uint8")
        self.multiply(product, *map(address, (a, b, c, bias, mask)))
        found = self.download(c)
        return bool(np.isnan(to_float32(found) if gemm.out_dtype == "bfloat16" else found).all())

    @contextmanager
    def _memory_for(self, needed: int) -> Iterator[None]:
        try:
            yield
        except self.xp.cuda.memory.OutOfMemoryError as error:
            free, total = self.memory()
            raise DeviceMemoryError(
                f"cuda:{self.index} has not enough memory: {needed:,} bytes are needed and "
                f"{free:,} of {total:,} are free; use a smaller batch size, or free what else is "
                "on the device"
            ) from error


@dataclass(frozen=True)
class _Zeros:
    """A product that sums over nothing: so many bytes of zeros."""

    bytes: int


class _Workspace:
    """Memory that products compute in. It is one product's at a time: streams take turns."""

    def __init__(self, cuda: Any, memory: Array) -> None:
        self._cuda = cuda
        self._memory = memory
        self._lock = threading.Lock()
        self._user: Any = None
        self.address = int(memory.data.ptr)

    @contextmanager
    def turn(self) -> Iterator[Any]:
        """Yield the current stream, made to wait for another that had the workspace before.

        A captured product uses it when the graph runs: that is then the graph's turn.
        """
        stream = self._cuda.get_current_stream()
        with self._lock:
            if not stream.is_capturing():
                if self._user is not None and self._user != stream:
                    stream.wait_event(self._user.record())
                self._user = stream
            yield stream


class _Graph(Graph):
    def __init__(self, graph: Any, workspace: _Workspace | None) -> None:
        self._graph = graph
        self._workspace = workspace

    def launch(self) -> None:
        """Run the captured launches on the current stream."""
        if self._workspace is None:
            self._graph.launch()
            return
        with self._workspace.turn() as stream:
            self._graph.launch(stream)


class _Event(Event):
    def __init__(self, cuda: Any, event: Any) -> None:
        self._cuda = cuda
        self.event = event

    def wait(self) -> None:
        """Block the host until that work is done."""
        self.event.synchronize()

    def seconds_since(self, earlier: Event) -> float:
        """Return the time on the device between two events that are both done."""
        assert isinstance(earlier, _Event)
        return float(self._cuda.get_elapsed_time(earlier.event, self.event)) / 1000


@cache
def problem(index: int) -> str:
    """Return why a device can't be used and the command that mends it, in one line; or "".

    Compiles, multiplies and replays something small, for that CuPy finds a driver proves none of
    it. Raises nothing.
    """
    try:
        import cupy  # noqa: PLC0415
    except Exception as error:  # it is not there, or it is there and broken
        return (
            f"CuPy can't be imported: {_line(error)}; pip install 'gpubp[cuda13]', or "
            "'gpubp[cuda12]' for a driver that nvidia-smi says is older than CUDA 13"
        )
    version = cupy.cuda.driver.get_build_version() // 1000
    toolkit = f"pip install 'cupy-cuda{version}x[ctk]'"
    update = f"update the NVIDIA driver: nvidia-smi must list the GPU and CUDA {version} or later"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        return f"the NVIDIA driver does not answer: {_line(error)}; {update}"
    if index >= count:
        return f"there is no cuda:{index}; the GPUs that nvidia-smi -L lists are {count}"
    steps: tuple[tuple[Callable[[CupyDriver], None], str, str], ...] = (
        (_check_capability, "the GPU is too old", "use another, or device 'cpu'"),
        (_check_compiler, "no kernel can be compiled and run", toolkit),
        (_check_products, "cuBLASLt can't multiply", toolkit),
        (_check_graphs, "no CUDA graph can be captured and replayed", update),
    )
    try:
        driver = CupyDriver(index)
    except Exception as error:
        return f"cuda:{index} does not start: {_line(error)}; {update}"
    for check, what, remedy in steps:
        try:
            with driver.active():
                check(driver)
        except Exception as error:
            return f"{what}: {_line(error)}; {remedy}"
    return ""


def _check_capability(driver: CupyDriver) -> None:
    found = int(driver.xp.cuda.Device(driver.index).compute_capability)
    if found < OLDEST:
        raise DeviceError(
            f"{driver.describe()} has compute capability {found / 10}, needed is {OLDEST / 10}"
        )


def _check_compiler(driver: CupyDriver) -> None:
    x = driver.zeros(1, "float64")
    driver.launch(driver.compile(_PROBE, "probe<double>"), (1, 1), 1, (driver.address(x),))
    _expect(driver, x, 1)


def _check_products(driver: CupyDriver) -> None:
    n = 16
    ones, c = driver.upload(np.ones(n * n, np.float32)), driver.zeros(n * n, "float32")
    product = driver.product(Gemm(n, n, n, False, False, "float32", "float32"))
    if product is None:
        raise DeviceError("it has no algorithm for float32")
    a = driver.address(ones)
    driver.multiply(product, a, a, driver.address(c), 0, 0)
    _expect(driver, c, n)


def _check_graphs(driver: CupyDriver) -> None:
    x = driver.zeros(1, "float64")
    probe = driver.compile(_PROBE, "probe<double>")

    def start() -> None:
        driver.launch(probe, (1, 1), 1, (driver.address(x),))

    start()  # older drivers can't load a kernel in a capture
    graph = driver.capture(start)
    graph.launch()
    graph.launch()
    _expect(driver, x, 3)


def _expect(driver: CupyDriver, array: Array, value: float) -> None:
    found = driver.download(array)
    if not (found == value).all():
        raise DeviceError(f"a test gave {found[0]} instead of {value}")


def _device_of(array: Any) -> tuple[int | None, int]:
    """Return DLPack's type and index of the device that an array lies on; no type: it won't say."""
    if not hasattr(array, "__dlpack_device__"):
        return None, 0
    kind, index = array.__dlpack_device__()
    return int(kind), int(index)


def _line(error: Exception) -> str:
    """Return an error's first line that is not empty, or its type where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
