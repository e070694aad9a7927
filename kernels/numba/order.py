"""The order of random words, for shuffles: a radix sort, in time that grows as their number."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from gpubp.kernels.numba import compiled, eager
from gpubp.kernels.numba.compiled import FLAGS

_BITS = 11  # a third of a word: 2048 places to write to at a time, as caches can hold them
_DIGITS = 1 << _BITS
_WORD = 32


@njit(**FLAGS)
def sort(words: Any, order: Any, counts: Any, from_: Any, to: Any) -> None:
    """order = the indices that sort ``words`` (uint32), equal ones as they are.

    ``counts`` holds three times as many int64 as a digit has values; ``from_`` and ``to`` as many
    as there are words, each an index with its word below it.
    """
    counts[:] = 0
    for i in range(words.size):
        word = np.int64(words[i])
        for digit in range(3):
            counts[digit * _DIGITS + ((word >> (digit * _BITS)) & (_DIGITS - 1))] += 1
        from_[i] = (i << _WORD) | word
    for digit in range(3):
        place = 0
        first = digit * _DIGITS
        for value in range(first, first + _DIGITS):
            count = counts[value]
            counts[value] = place
            place += count
        shift = digit * _BITS
        for i in range(words.size):
            value = first + (((from_[i] & 0xFFFFFFFF) >> shift) & (_DIGITS - 1))
            to[counts[value]] = from_[i]
            counts[value] += 1
        from_, to = to, from_
    for i in range(words.size):
        order[i] = from_[i] >> _WORD


_SOURCE = '''"""The order of random words, written by gpubp."""
from numba import carray, cfunc
from gpubp.kernels.numba.compiled import ENTRY_FLAGS
from gpubp.kernels.numba.intrinsics import pointer
from gpubp.kernels.numba.order import sort

@cfunc("void(CPointer(int64))", **ENTRY_FLAGS)
def entry(args):
    n = args[5]
    sort(
        carray(pointer(args[0], "uint32"), (n,)), carray(pointer(args[1], "int64"), (n,)),
        carray(pointer(args[2], "int64"), (args[6],)),
        carray(pointer(args[3], "int64"), (n,)), carray(pointer(args[4], "int64"), (n,)),
    )
'''


@cache
def _address() -> int:
    return compiled.compile_entry(*entry())


def entry() -> tuple[str, str]:
    """Return the name and source of the entry point."""
    return "order", _SOURCE


class Shuffle:
    """Draws orders of a number of rows: memory and calls are prepared once, for use every epoch."""

    def __init__(self, count: int, stream: int) -> None:
        self._words = np.empty(count, np.uint32)
        self._key = np.empty(1, np.int64), np.empty(1, np.int64)
        self._draw = eager.bound("random_bits", [*self._key, self._words], {"stream": stream})
        self._sort, self._order = sorting(self._words)

    def __call__(self, seed: int, step: int) -> NDArray[np.int64]:
        """Return the indices that sort random words; the next call overwrites them."""
        for word, value in zip(self._key, (seed, step), strict=True):
            word[0] = value
        self._draw()
        self._sort()
        return self._order


def sorting(words: NDArray[np.uint32]) -> tuple[Callable[[], None], NDArray[np.int64]]:
    """Return the call that sorts what is in ``words`` by then, and what it writes the order to.

    The order is that of the indices where words are equal.
    """
    order, first, second = (np.empty(words.size, np.int64) for _ in range(3))
    counts = np.empty(3 * _DIGITS, np.int64)
    arrays = (words, order, counts, first, second)
    args = np.array([*(a.ctypes.data for a in arrays), words.size, counts.size], np.int64)
    function, address = compiled.c_function(_address()), args.ctypes.data

    def call(_: object = (args, arrays)) -> None:  # which must not go before it
        function(address)

    return call, order
