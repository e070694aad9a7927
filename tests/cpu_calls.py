"""Runs the calls of cases.py, with operands as precisions.py says, on the backends of the CPU.

Every operand lies between guard bytes.
"""

import numpy as np
import pytest
from host_cuda.products import STORED, decode, encode
from runners import NUMBA_LACKS

from gpubp.backends.numba_program import make_row
from gpubp.backends.numpy import NumpyBackend
from gpubp.kernels.numba import compiled

GUARD, FILL = 64, 0xA5


def run_numpy(kernel, arrays, dtypes, scalars):
    bits = [dtype == "bfloat16" for dtype in dtypes]
    with np.errstate(all="ignore"):
        NumpyBackend().bound(kernel, arrays, bits, scalars)()


def run_numba(kernel, arrays, dtypes, scalars):
    if kernel in NUMBA_LACKS:
        pytest.skip(NUMBA_LACKS[kernel])
    row = make_row(kernel, arrays, dtypes, scalars)
    compiled.c_function(row.address)(row.words.ctypes.data)


class Guarded:
    """An array as a backend has it, between guard bytes."""

    def __init__(self, array, dtype):
        self.dtype = dtype
        stored = np.ascontiguousarray(encode(array, dtype))
        self.raw = np.full(stored.nbytes + 2 * GUARD, FILL, np.uint8)
        inside = self.raw[GUARD : GUARD + stored.nbytes]
        self.array = inside.view(STORED.get(dtype, dtype)).reshape(stored.shape)
        self.array[...] = stored

    def fetch(self, what):
        around = np.concatenate([self.raw[:GUARD], self.raw[self.raw.size - GUARD :]])
        assert (around == FILL).all(), f"{what}: bytes beside it were written to"
        return decode(self.array, self.dtype)


def run(way, call, precision):
    """Run a call; its arrays then hold what was there afterwards. One that stands twice is one."""
    held, dtypes = {}, []
    for declared, array in zip(call.kernel.operands, call.operands, strict=True):
        dtypes.append(None if array is None else precision.dtype(declared, array))
        if array is not None and id(array) not in held:
            held[id(array)] = Guarded(array, dtypes[-1])
    arrays = [None if array is None else held[id(array)].array for array in call.operands]
    way(call.kernel.name, arrays, tuple(dtypes), call.scalars)
    for name, array in call.named.items():
        if array is not None:
            array[...] = held[id(array)].fetch(f"{call.kernel.name}: {name}")


WAYS = {"numpy": run_numpy, "numba": run_numba}
