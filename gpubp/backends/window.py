"""A data set that is larger than the device: a window on it that moves as an epoch goes on.

The window is two blocks of rows. While steps compute on one, the rows of the next are picked on the
host in the epoch's order, put into pinned memory and copied to the other on a stream of its own.
Position r of the epoch lies at r modulo the window's length, and that is the permutation that a
plan reads by, so the plan is the same as for data that lie on the device whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubp.kernels.cuda.driver import Array, Driver, Event

if TYPE_CHECKING:
    from concurrent.futures import Future

Arrays = Mapping[str, NDArray[Any]]


class Window:
    """The device's part of arrays in host memory.

    Args:
        driver: the device, which is current.
        arrays: on the host, by the names that plans give them; the first axes are of one length.
        count: how many rows an epoch has.
        block: the rows of half a window; a multiple of the steps' minibatch, so that no minibatch
            lies across its end.
    """

    def __init__(self, driver: Driver, arrays: Arrays, count: int, block: int) -> None:
        self.driver, self.block, self.count = driver, block, count
        self._source = dict(arrays)
        self.arrays: dict[str, Array] = {}
        self._staging: list[dict[str, NDArray[Any]]] = [{}, {}]
        for name, array in arrays.items():
            shape, dtype = (2 * block, *array.shape[1:]), array.dtype.name
            size = int(np.prod(shape))
            self.arrays[name] = driver.zeros(size, dtype).reshape(shape)
            for half in self._staging:
                half[name] = driver.pinned((block, *shape[1:]), dtype)
        self.positions = driver.upload(np.arange(count, dtype=np.int64) % (2 * block))
        driver.synchronize()  # copies beside wait for nothing, so not for these zeros
        self._order: NDArray[np.int64] = np.arange(0)
        self._filled: dict[int, Future[Event]] = {}
        self._copies: list[Event | None] = [None, None]  # the last into each half
        # Imported here: it can't be when the interpreter is ending, and then there may be training.
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

        self._pool = ThreadPoolExecutor(1, thread_name_prefix="gpubp-window")

    @staticmethod
    def bytes_of_row(arrays: Arrays) -> int:
        """Return the bytes of device memory that a row of the window takes."""
        return sum(array.nbytes // max(1, len(array)) for array in arrays.values())

    def begin(self, order: NDArray[np.int64] | None = None) -> None:
        """Start an epoch whose rows come in this order, or in that of the last one.

        The steps of the last one must be done.
        """
        for future in self._filled.values():
            future.result()
        self._filled.clear()
        if order is not None:
            self._order = order

    def reach(self, row: int) -> int:
        """Have the block with a row on the device, and the next one on its way.

        The current stream's further work waits for the copy. All steps on the rows before that
        block must be done, as the next block takes their place.

        Returns:
            the row where the block ends.
        """
        index = row // self.block
        for wanted in (index, index + 1):
            if wanted * self.block < self.count and wanted not in self._filled:
                self._filled[wanted] = self._pool.submit(self._fill, wanted)
        for passed in [number for number in self._filled if number < index]:
            del self._filled[passed]
        self.driver.after(self._filled[index].result())
        return min((index + 1) * self.block, self.count)

    def _fill(self, index: int) -> Event:
        """Pick a block's rows and start their copies; return the event after the last of them."""
        half = index % 2
        rows = self._order[index * self.block : (index + 1) * self.block]
        with self.driver.active():
            busy = self._copies[half]
            if busy is not None:
                busy.wait()  # pinned memory may change only when it was copied
            copied: Event | None = None
            for name, source in self._source.items():
                picked = self._staging[half][name][: len(rows)]
                # "clip" writes straight to ``picked``; every row is within bounds.
                np.take(source, rows, axis=0, out=picked, mode="clip")
                start = half * self.block
                target = self.arrays[name][start : start + len(rows)]
                copied = self.driver.copy_beside(picked, target)
            assert copied is not None  # there is an array at least
            self._copies[half] = copied
            return copied
