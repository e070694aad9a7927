"""The memory of a stand-in device: host memory in which every use is checked.

Each allocation lies between guard bytes. What a kernel or a copy gets as an address must lie in an
allocation of the device, and the guards are looked at after every use.
"""

import threading
import weakref
from bisect import bisect_right, insort
from dataclasses import dataclass

import numpy as np

from gpubp.errors import DeviceMemoryError

ALIGNMENT = 256
GUARD = 256
FILL = 0xFF  # NaN in every float dtype, so that what is read beyond an end shows


class Misuse(AssertionError):
    """Something was done that a GPU would not do, or do wrong."""


@dataclass(frozen=True)
class Block:
    """An allocation: the array that owns its memory, and where in it the allocation lies."""

    owner: weakref.ref
    start: int
    size: int
    guarded: bool

    def contains(self, address, nbytes):
        return self.start <= address and address + nbytes <= self.start + self.size

    def check_guards(self, owner, what):
        """Raise if bytes beside the allocation in its owner were written to."""
        if self.guarded:
            start = self.start - owner.ctypes.data
            guards = owner[start - GUARD : start], owner[start + self.size :]
            if not all((guard == FILL).all() for guard in guards):
                raise Misuse(f"{what} wrote beside an allocation of {self.size} bytes")


class Memory:
    """The allocations of one device, of ``capacity`` bytes in all, as NumPy arrays."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.used = 0
        self._blocks = {}
        self._starts = []  # their keys in order
        self._lock = threading.RLock()

    def zeros(self, shape, dtype):
        """Return a new array of zeros."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        free = self.capacity - self.used
        if size > free:
            raise DeviceMemoryError(
                f"{size} bytes of device memory are needed, {free} of {self.capacity} are free"
            )
        owner = np.full(size + ALIGNMENT + 2 * GUARD, FILL, np.uint8)
        offset = GUARD + -(owner.ctypes.data + GUARD) % ALIGNMENT
        self._add(owner, owner.ctypes.data + offset, size, guarded=True)
        array = np.ndarray(shape, dtype, owner, offset)
        array[...] = 0
        return array

    def include(self, array):
        """Make an array, or what it is a view of, part of this memory if it is not."""
        if self.find(array.ctypes.data, array.nbytes) is None:
            owner = array
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            self._add(owner, owner.ctypes.data, owner.nbytes, guarded=False)

    def find(self, address, nbytes=0):
        """Return the block in which these bytes lie, or None."""
        with self._lock:
            place = bisect_right(self._starts, address) - 1
            block = self._blocks[self._starts[place]] if place >= 0 else None
            return block if block and block.contains(address, nbytes) else None

    def array(self, address, shape, dtype, strides=None):
        """Return what lies at an address as an array.

        Raises:
            Misuse: not all of it is in this memory.
        """
        strides = strides or np.empty(shape, dtype).strides
        reach = np.dtype(dtype).itemsize if 0 not in shape else 0
        reach += sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True) if reach)
        block = self.find(address, reach)
        if block is None:
            raise Misuse(f"{reach} bytes at {address:#x} are not in this device's memory")
        owner = block.owner()
        offset = address - owner.ctypes.data
        return np.ndarray(shape, dtype, owner.view(np.uint8).reshape(-1), offset, strides)

    def _add(self, owner, start, size, *, guarded):
        with self._lock:
            self._blocks[start] = Block(weakref.ref(owner), start, size, guarded)
            insort(self._starts, start)
            self.used += size
        weakref.finalize(owner, self._remove, start)

    def _remove(self, start):
        with self._lock:
            self._starts.remove(start)
            self.used -= self._blocks.pop(start).size
