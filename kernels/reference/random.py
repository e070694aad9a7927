"""Counter-based random bits (Philox4x32-10) and the dropout made of them.

Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3. A word is a function of its
position, so any part of a stream can be had by itself, on any backend, in any order. 32-bit words
are kept in 64-bit integers, in which a product of two of them is exact.
"""

from __future__ import annotations

import math
from typing import Any

from array_api_compat import array_namespace, device

_ROUNDS = 10
_LOW = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85  # what each round adds to the key: golden ratio, √3 - 1


def philox(counter: tuple[Any, Any, Any, Any], key: tuple[Any, Any]) -> tuple[Any, Any, Any, Any]:
    """Return the four words of Philox4x32-10 at a counter of four words, under a key of two.

    Words are uint64 arrays of values below 2³²; the first and the third of the counter and the
    key must be arrays, the others may be Python integers.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        left, right = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (right >> 32) ^ c1 ^ k0, right & _LOW, (left >> 32) ^ c3 ^ k1, left & _LOW
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return c0, c1, c2, c3


def _words(value: Any) -> tuple[Any, Any]:
    """Return the low and high 32 bits of an int64 array as uint64 arrays."""
    xp = array_namespace(value)
    return xp.astype(value & _LOW, xp.uint64), xp.astype((value >> 32) & _LOW, xp.uint64)


def _bits(seed: Any, step: Any, stream: int, first: int, count: int) -> Any:
    """Return words ``first`` to ``first + count`` of a stream at one step, as uint32."""
    xp = array_namespace(seed, step)
    start = first // 4
    blocks = xp.arange(start, -((first + count) // -4), dtype=xp.uint64, device=device(seed))
    words = philox((blocks, stream & _LOW, *_words(step)), _words(seed))
    skipped = first - 4 * start
    return xp.astype(xp.reshape(xp.stack(words, axis=1), (-1,)), xp.uint32)[
        skipped : skipped + count
    ]


def random_bits(seed: Any, step: Any, bits: Any, *, stream: int) -> None:
    """bits[4 c + j] = word j at counter (c, stream, step low, step high), key = seed."""
    bits[...] = _bits(seed, step, stream, 0, bits.shape[0])


def dropout(
    x: Any, seed: Any, step: Any, y: Any, *, rate: float, stream: int, first: int = 0
) -> None:
    """y_i = x_i / (1 - rate) if bit word first + i >= rate · 2³² else 0."""
    xp = array_namespace(x, seed, step)
    bits = _bits(seed, step, stream, first, math.prod(x.shape))
    keep = xp.reshape(bits >= math.floor(rate * 2.0**32), x.shape)
    y[...] = xp.where(keep, x / (1.0 - rate), 0.0)


def dropout_delta(
    dy: Any, seed: Any, step: Any, dx: Any, *, rate: float, stream: int, first: int = 0
) -> None:
    """Dropout of the gradient, under the same mask."""
    dropout(dy, seed, step, dx, rate=rate, stream=stream, first=first)
