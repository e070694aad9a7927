"""The driver of the stand-in devices, stricter than a GPU.

A device has two streams, the current one and that of the copies beside. One of the two does its
work at once, the other as late as it may: so a missing wait shows as wrong data.
"""

import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

import numpy as np

from gpubp.errors import DeviceError
from gpubp.kernels.cuda.driver import Driver, Event, Graph
from host_cuda import build, products
from host_cuda.arrays import DeviceArray, Namespace
from host_cuda.memory import Memory, Misuse

ORDERS = {"forward": 0, "reverse": 1, "random": 2}


class Machine:
    """Some devices, and what they have in common.

    Args:
        devices: how many.
        capacity: the memory of each, bytes.
        order: in which order the blocks, warps and threads take turns, see ORDERS.
        seed: for the random order.
        copies: whether copies beside are made ``"late"``, all else at once, or ``"early"``, all
            else late.

    ``lacks`` may be set to a function of a Gemm that says which products the library has not,
    ``library`` to one that returns other code for a family than that in kernels/cuda/.
    """

    def __init__(self, devices=1, capacity=2**30, *, order="forward", seed=0, copies="late"):
        self.order, self.seed = order, seed
        self.lacks = lambda gemm: False
        self.library = build.library
        self.thread = threading.local()  # its `device` is the current one, `recorded` a capture
        self.drivers = [HostDriver(self, index, capacity, copies) for index in range(devices)]

    def turns(self):
        """Return functions that set one order each; what is right is the same in all of them."""
        return [partial(setattr, self, "order", order) for order in ORDERS]


class PinnedArray(np.ndarray):
    """An array in pinned host memory."""


@dataclass(frozen=True)
class Work:
    """A launch: what it is called, the addresses that it uses, and the function that does it."""

    what: str
    addresses: tuple[int, ...]
    do: Any


def _on_current_device(method):
    @wraps(method)
    def checked(self, *arguments, **options):
        if getattr(self.machine.thread, "device", None) is not self:
            raise Misuse(f"{method.__name__} on device {self.index}, which is not the current one")
        return method(self, *arguments, **options)

    return checked


def _not_in_capture(method):
    @_on_current_device
    @wraps(method)
    def checked(self, *arguments, **options):
        if self.recorded is not None:
            raise Misuse(f"{method.__name__} in a capture")
        return method(self, *arguments, **options)

    return checked


class HostDriver(Driver):
    """A stand-in device of a :class:`Machine`."""

    def __init__(self, machine, index, capacity, copies):
        self.machine, self.index = machine, index
        self.xp = Namespace(self)
        self.known = Memory(capacity)
        self._work = Stream(lazy=copies == "early")
        self._copies = Stream(lazy=copies == "late")
        self._loaded = set()

    @property
    def recorded(self):
        """What the thread's capture has recorded so far, None where none is on."""
        return getattr(self.machine.thread, "recorded", None)

    def wrap(self, result):
        """Return a NumPy result as one of this device."""
        if isinstance(result, (tuple, list)):
            return type(result)(map(self.wrap, result))
        if not isinstance(result, (np.ndarray, np.generic)):
            return result
        values = np.asarray(result)
        self.known.include(values)
        return DeviceArray(self, values)

    def finish(self):
        """Do all work of the current stream."""
        if self.recorded is not None:
            raise Misuse("the values of an array are needed in a capture")
        self._work.run()

    @contextmanager
    def active(self):
        thread = self.machine.thread
        before, thread.device = getattr(thread, "device", None), self
        try:
            yield
        finally:
            thread.device = before

    @_on_current_device
    def describe(self):
        return f"host stand-in {self.index}"

    @_on_current_device
    def memory(self):
        return self.known.capacity - self.known.used, self.known.capacity

    @_not_in_capture
    def zeros(self, length, dtype):
        return self.wrap(self.known.zeros((length,), products.STORED.get(dtype, dtype)))

    @_on_current_device
    def adopt(self, array):
        if isinstance(array, np.ndarray):
            return array
        described = getattr(array, "__cuda_array_interface__", None)
        if described is None:
            return np.from_dlpack(array)
        address, shape = described["data"][0], described["shape"]
        if self.known.find(address) is None:
            homes = (f"cuda:{d.index}" for d in self.machine.drivers if d.known.find(address))
            raise DeviceError(f"the array lies on {next(homes, 'none')}, not on cuda:{self.index}")
        if isinstance(array, DeviceArray):
            return array
        return self.wrap(
            self.known.array(address, shape, described["typestr"], described.get("strides"))
        )

    @_not_in_capture
    def upload(self, array):
        if not isinstance(array, np.ndarray):
            raise Misuse(f"upload of a {type(array).__name__}")
        made = self.known.zeros(array.shape, array.dtype)
        made[...] = array
        return self.wrap(made)

    @_not_in_capture
    def download(self, array):
        return np.array(array.values, order="C")

    @_on_current_device
    def address(self, array):
        if not isinstance(array, DeviceArray):
            raise Misuse(f"the address of a {type(array).__name__}")
        return array.unready.ctypes.data

    @_on_current_device
    def function(self, variant):
        if self.recorded is not None and variant not in self._loaded:
            raise Misuse(f"{variant} is compiled in a capture")
        self._loaded.add(variant)
        return self.machine.library(variant.family).function(variant)

    @_on_current_device
    def launch(self, function, grid, block, words):
        if len(words) != len(function.parameters):
            raise Misuse(f"{function.variant} takes {function.parameters}, got {len(words)} words")
        if block % 32 or not 0 < block <= 1024 or min(grid) < 1 or grid[1] > 65535:
            raise Misuse(f"{function.variant} can't be launched as {grid} blocks of {block}")
        pairs = zip(function.parameters, words, strict=True)
        addresses = tuple(word for letter, word in pairs if letter == "p" and word)
        run = partial(self._run, function, grid, block, np.array(words, np.int64))
        self.start(Work(str(function.variant), addresses, run))

    def _run(self, function, grid, block, words):
        order = ORDERS[self.machine.order]
        shape = np.array([*grid, block, order, self.machine.seed], np.int64)
        problem = function.entry(shape.ctypes.data, words.ctypes.data)
        if problem:
            raise Misuse(f"{function.variant}: {problem.decode()}")

    @_not_in_capture
    def product(self, gemm):
        return None if self.machine.lacks(gemm) else gemm

    @_on_current_device
    def multiply(self, product, a, b, c, bias, mask):
        given = {"a": a, "b": b, "c": c, "vector": bias, "mask": mask}
        given = {name: address for name, address in given.items() if address}
        if given.keys() != set(products.needed(product)):
            raise Misuse(f"{product} was given {sorted(given)}")
        shapes = products.shapes(product)

        def run():
            arrays = {name: self.known.array(at, *shapes[name]) for name, at in given.items()}
            products.multiply(product, **arrays)

        self.start(Work(str(product), tuple(given.values()), run))

    def start(self, work):
        """Start work on the current stream; while a capture is on only record it."""
        if self.recorded is not None:
            self.recorded.append(work)
            return
        blocks = [self.known.find(address) for address in work.addresses]
        if None in blocks:
            address = work.addresses[blocks.index(None)]
            raise Misuse(f"{work.what}: {address:#x} is not in this device's memory")
        owners = [block.owner() for block in blocks]  # memory in use is not taken by others

        def run():
            work.do()
            for block, owner in zip(blocks, owners, strict=True):
                block.check_guards(owner, work.what)

        self._work.add(run)

    @_not_in_capture
    def capture(self, record):
        self.machine.thread.recorded = []
        try:
            record()
            return HostGraph(self, self.recorded)
        finally:
            self.machine.thread.recorded = None

    @_not_in_capture
    def event(self):
        return HostEvent(self._work)

    @_not_in_capture
    def synchronize(self):
        self._work.run()

    @_on_current_device
    def pinned(self, shape, dtype):
        return np.zeros(shape, products.STORED.get(dtype, dtype)).view(PinnedArray)

    @_not_in_capture
    def copy_beside(self, source, target):
        if not isinstance(source, PinnedArray):
            raise Misuse("a copy beside is from pinned memory")
        into = target.unready
        if (source.shape, source.dtype) != (into.shape, into.dtype):
            raise Misuse(f"{source.shape} {source.dtype} for {into.shape} {into.dtype}")
        self._copies.add(partial(np.copyto, into, source))
        return HostEvent(self._copies)

    @_not_in_capture
    def after(self, event):
        self._work.add(event.happen)


class Stream:
    """Work in order. A lazy one does it when something waits for it."""

    def __init__(self, lazy):
        self.lazy = lazy
        self.added = self._done = 0
        self._queue = deque()
        self._lock = threading.RLock()  # a copy may be waited for on two threads

    def add(self, function):
        with self._lock:
            self._queue.append(function)
            self.added += 1
        if not self.lazy:
            self.run()

    def run(self, until=None):
        """Do the work that was added, or of it the first ``until`` pieces."""
        with self._lock:
            while self._queue and (until is None or self._done < until):
                self._done += 1
                self._queue.popleft()()


class HostEvent(Event):
    """A point in the work of a stream."""

    def __init__(self, stream):
        self._stream, self._number = stream, stream.added
        self._seconds = time.perf_counter()

    def happen(self):
        self._stream.run(self._number)

    def wait(self):
        self.happen()

    def seconds_since(self, earlier):
        return self._seconds - earlier._seconds


class HostGraph(Graph):
    """Work of a device to be repeated."""

    def __init__(self, driver, recorded):
        self._driver, self._recorded = driver, recorded

    def launch(self):
        if getattr(self._driver.machine.thread, "device", None) is not self._driver:
            raise Misuse("a graph is launched where its device is not the current one")
        for work in self._recorded:
            self._driver.start(work)
