"""The arrays that plans read, on the device whole or through a window."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gpubp.backends.base import Array, Backend
from gpubp.backends.window import Window
from gpubp.errors import CopyWarning, DeviceMemoryError, warn
from gpubp.kernels.contract import dtype_name
from gpubp.plan.build import Inputs

_POSITION_BYTES = 8  # of a row, in a window
# Of half a window, at most: a copy of milliseconds, beside which its start is nothing.
_BLOCK_BYTES = 256 << 20


@dataclass(frozen=True)
class Data:
    """Checked arrays; ``rows`` (int64, on the device) picks and orders rows, None takes all.

    With a ``window`` the arrays are the window's, and ``source`` is what it is a window on.
    """

    x: Array
    y: Array | None = None
    weights: Array | None = None
    rows: Array | None = None
    window: Window | None = None
    source: Data | None = None

    @property
    def size(self) -> int:
        """The number of rows."""
        chosen = self.x if self.rows is None else self.rows
        return int(chosen.shape[0])

    @property
    def inputs(self) -> Inputs:
        """What a plan has to know of the arrays."""
        weights = "" if self.weights is None else dtype_name(self.weights.dtype)
        if self.y is None:
            return Inputs(self.x.shape[1], dtype_name(self.x.dtype))
        y_dtype = dtype_name(self.y.dtype)
        labels = len(self.y.shape) == 1
        return Inputs(
            self.x.shape[1], dtype_name(self.x.dtype), "labels" if labels else "values",
            0 if labels else self.y.shape[1], y_dtype, weights,
        )  # fmt: skip

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by the names that plans give them."""
        return {**self._columns(), **({} if self.rows is None else {"permutation": self.rows})}

    def _columns(self) -> dict[str, Array]:
        named: dict[str, Array] = {"X": self.x, "y": self.y, "weights": self.weights}
        return {name: array for name, array in named.items() if array is not None}

    def least_bytes(self, backend: Backend, unit: int) -> int:
        """Return the bytes that :meth:`placed` moves to the device at least."""
        host = {name: a for name, a in self._columns().items() if not backend.holds(a)}
        if math.isinf(backend.free_memory()):
            return 0
        row = Window.bytes_of_row(host)
        return min(row * self.size, 2 * row * unit + _POSITION_BYTES * self.size)

    def placed(
        self, backend: Backend, unit: int, reserve: int, moved: dict[int, Array] | None = None
    ) -> Data:
        """Return the data where the backend computes: whole if they fit, else through a window.

        Args:
            backend: whose device.
            unit: the rows of a minibatch.
            reserve: bytes of device memory to be left free.
            moved: what was moved before, by the identity of the host's array; added to.

        Raises:
            DeviceMemoryError: not even two minibatches fit.
        """
        moved = {} if moved is None else moved
        columns = self._columns().items()
        there: dict[str, Array] = {name: moved.get(id(array), array) for name, array in columns}
        host = {name: array for name, array in there.items() if not backend.holds(array)}
        room = backend.free_memory() - reserve
        if not host or math.isinf(room) or sum(array.nbytes for array in host.values()) <= room:
            for name, array in host.items():
                there[name] = moved[id(array)] = backend.to_device(array)
            return replace(self, **_fields(there))
        return self._through_window(backend, unit, room)

    def _through_window(self, backend: Backend, unit: int, room: float) -> Data:
        host = self._columns()
        for name, array in host.items():
            if backend.holds(array):  # a plan reads all of its arrays by the window's rows
                warn(
                    f"{name} lies on the device and was copied to the host, because other data do "
                    "not fit and all of them stream together; pass all of them in host memory",
                    CopyWarning,
                )
                host[name] = backend.to_host(array)
        row = Window.bytes_of_row(host)
        room -= _POSITION_BYTES * self.size
        most = min(room / 2, 2 * _BLOCK_BYTES, 2 * row * self.size)  # others may need one, too
        block = max(1, int(most) // (2 * row * unit)) * unit
        if 2 * row * block > room:
            raise DeviceMemoryError(
                f"the data ({row * self.size:,} bytes) don't fit on the device, and of the "
                f"{max(0, int(room)):,} bytes that are left for a part of them, two minibatches of "
                f"{unit} rows need {2 * row * unit:,}; free what else is on it, or use a "
                "smaller batch_size"
            )
        window = backend.window(host, self.size, block)
        rows = np.arange(self.size) if self.rows is None else backend.to_host(self.rows)
        window.begin(np.asarray(rows, np.int64))
        return replace(
            self, **_fields(window.arrays), rows=window.positions, window=window, source=self
        )


def _fields(arrays: Mapping[str, Array]) -> dict[str, Array]:
    names = {"X": "x", "y": "y", "weights": "weights"}
    return {names[name]: array for name, array in arrays.items()}
