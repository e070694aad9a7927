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

_U = np.uint64
_WORD = _U(0xFFFFFFFF)
_HALF = _U(32)
_MULTIPLIER_0, _MULTIPLIER_1 = _U(0xD2511F53), _U(0xCD9E8D57)
_WEYL_0, _WEYL_1 = _U(0x9E3779B9), _U(0xBB67AE85)
_ROUNDS = 10


@njit(**FLAGS)
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
    for block in range((bits.size + 3) // 4):
        words = philox(_U(block), s, t, key)
        for j in range(min(4, bits.size - 4 * block)):
            bits[4 * block + j] = words[j]


@njit(**FLAGS)
def dropout(x: Any, seed: Any, step: Any, y: Any, rate: float, stream: int, first: int) -> None:
    """y_i = x_i / (1 - rate) where word first + i is at least rate · 2**32, else 0."""
    s, t, key = _U(stream), _U(step[0]), _U(seed[0])
    threshold = _U(rate * 4294967296.0)
    kept = y.dtype.type(1 / (1 - rate))
    zero = y.dtype.type(0)
    for block in range(first // 4, (first + x.size + 3) // 4):
        words = philox(_U(block), s, t, key)
        start = 4 * block - first
        for j in range(max(0, -start), min(4, x.size - start)):
            i = start + j
            y[i] = x[i] * kept if words[j] >= threshold else zero


# The gradient passes where the value passed: the same mask, drawn again rather than stored.
dropout_delta = dropout
