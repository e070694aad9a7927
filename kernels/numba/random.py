"""Counter-based random bits by Philox4x32-10, and dropout on them.

Philox (Salmon et al. 2011) turns a counter and a key into four 32-bit words with no state, so that
any element of any step can be drawn by any thread on any device. Words are held in uint64, where
the product of two 32-bit words is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from gpubp.kernels.numba.compiled import FLAGS
from gpubp.kernels.numba.intrinsics import like

_U = np.uint64
_WORD = _U(0xFFFFFFFF)
_HALF = _U(32)
_MULTIPLIER_0, _MULTIPLIER_1 = _U(0xD2511F53), _U(0xCD9E8D57)
_WEYL_0, _WEYL_1 = _U(0x9E3779B9), _U(0xBB67AE85)
_ROUNDS = 10


@njit(forceinline=True, **FLAGS)  # else the loops around it do not vectorise: nine times slower
def philox(block: Any, stream: Any, step: Any, seed: Any) -> Any:
    """Return the four words of counter (block, stream, step low, step high) and key ``seed``."""
    c0, c1, c2, c3 = block & _WORD, stream & _WORD, step & _WORD, step >> _HALF
    k0, k1 = seed & _WORD, seed >> _HALF
    for _ in range(_ROUNDS):
        p0, p1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _WORD, (p0 >> _HALF) ^ c3 ^ k1, p0 & _WORD
        k0, k1 = (k0 + _WEYL_0) & _WORD, (k1 + _WEYL_1) & _WORD
    return c0, c1, c2, c3


@njit(**FLAGS)
def random_bits(seed: Any, step: Any, bits: Any, stream: int) -> None:
    """bits[4 c + j] = word j of block c."""
    s, t, key = _U(stream), _U(step[0]), _U(seed[0])
    whole = bits.size // 4
    for block in range(whole):
        w0, w1, w2, w3 = philox(_U(block), s, t, key)
        bits[4 * block] = w0
        bits[4 * block + 1] = w1
        bits[4 * block + 2] = w2
        bits[4 * block + 3] = w3
    words = philox(_U(whole), s, t, key)
    for j in range(bits.size - 4 * whole):
        bits[4 * whole + j] = words[j]


@njit(**FLAGS)
def dropout(x: Any, seed: Any, step: Any, y: Any, rate: float, stream: int, first: int) -> None:
    """y_i = x_i / (1 - rate) where word first + i is at least rate · 2**32, else 0."""
    s, t, key = _U(stream), _U(step[0]), _U(seed[0])
    threshold = _U(rate * 4294967296.0)
    kept = y.dtype.type(1 / (1 - rate))
    # The blocks that lie in x whole; what is before and after them is done element by element.
    # Indices count from the first of them, so that the compiler sees that none is negative.
    low, high = (first + 3) // 4, (first + x.size) // 4
    start = min(4 * low - first, x.size)
    inner_x, inner_y = x[start:], y[start:]
    for block in range(high - low):
        w0, w1, w2, w3 = philox(_U(low + block), s, t, key)
        i = 4 * block
        inner_y[i] = _kept(inner_x[i], w0, threshold, kept)
        inner_y[i + 1] = _kept(inner_x[i + 1], w1, threshold, kept)
        inner_y[i + 2] = _kept(inner_x[i + 2], w2, threshold, kept)
        inner_y[i + 3] = _kept(inner_x[i + 3], w3, threshold, kept)
    for begin, end in ((0, start), (max(4 * high - first, start), x.size)):
        for i in range(begin, end):
            words = philox(_U((first + i) // 4), s, t, key)
            y[i] = _kept(x[i], words[(first + i) % 4], threshold, kept)


@njit(forceinline=True, **FLAGS)
def _kept(x: Any, word: Any, threshold: Any, factor: Any) -> Any:
    scaled = x * factor
    return scaled if word >= threshold else like(0.0, x)


# The gradient passes where the value passed: the same mask, drawn again rather than stored.
dropout_delta = dropout
