"""Exponential and hyperbolic tangent that the compiler can vectorise, and what is made of them.

Numba from PyPI has no vector library, so ``np.exp`` in a loop is a scalar call for every element.
float32 has polynomials here, of 2 ulp or better over the whole range; float64, which is for
checking rather than for speed, uses the C library. NaN stays NaN and infinities have their limits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload, register_jitable

from gpubp.kernels.numba.bfloat16 import bfloat16
from gpubp.kernels.numba.intrinsics import like, scaled_by_power_of_two

# No reassociation in here: the additions that split an argument are not to be simplified away.
EXACT = {"contract"}
_SPLIT = np.float32(12582912.0)  # 1.5 · 2**23: adding it rounds a float32 to an integer
_LOG2E = np.float32(1.44269504088896)
_LN2_HIGH = np.float32(0.693359375)  # ln 2 in two parts: exact times an integer, and the rest
_LN2_LOW = np.float32(-2.12194440e-4)
_EXP_LOW, _EXP_HIGH = np.float32(-87.33654), np.float32(88.37626)
_F = np.float32
_SINGLE = (types.float32, bfloat16)


@njit(forceinline=True, fastmath=EXACT, error_model="numpy")
def _split_exp32(x: Any) -> Any:
    """Return n and exp(r) - 1 for x = n ln 2 + r, |r| <= ln 2 / 2."""
    n = (x * _LOG2E + _SPLIT) - _SPLIT
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = _F(1.9875691500e-4)
    p = p * r + _F(1.3981999507e-3)
    p = p * r + _F(8.3334519073e-3)
    p = p * r + _F(4.1665795894e-2)
    p = p * r + _F(1.6666665459e-1)
    p = p * r + _F(5.0000001201e-1)
    return n, p * r * r + r


@njit(fastmath=EXACT, error_model="numpy")
def _expm1_32(x: Any) -> Any:
    """exp - 1 in float32 for x <= 0, right to the last digits near 0: 2**n (exp(r) - 1) + 2**n - 1.

    Below -87, where exp vanishes beside 1, it is -1.
    """
    n, q = _split_exp32(max(x, _EXP_LOW))
    power = scaled_by_power_of_two(_F(1.0), n)
    y = power * q + (power - _F(1.0))
    return y if x == x else x  # noqa: PLR0124 (NaN)


@njit(fastmath=EXACT, error_model="numpy")
def _log1p32(u: Any) -> Any:
    """log(1 + u) in float32 for 0 <= u <= 1: 2 artanh(s), s = u / (2 + u) <= 1/3, by its series."""
    s = u / (_F(2.0) + u)
    z = s * s
    p = _F(1 / 15)
    p = p * z + _F(1 / 13)
    p = p * z + _F(1 / 11)
    p = p * z + _F(1 / 9)
    p = p * z + _F(1 / 7)
    p = p * z + _F(1 / 5)
    p = p * z + _F(1 / 3)
    return _F(2.0) * (s + s * z * p)


@njit(fastmath=EXACT, error_model="numpy")
def _exp32(x: Any) -> Any:
    """exp in float32: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial in r, times 2**n.

    The polynomial is the one of the Cephes library (Moshier 1992), ``expf``. Results below the
    smallest normal number are 0.
    """
    n, q = _split_exp32(min(max(x, _EXP_LOW), _EXP_HIGH))
    y = scaled_by_power_of_two(q + _F(1.0), n)
    y = y if x >= _EXP_LOW else _F(0.0)
    y = y if x <= _EXP_HIGH else _F(np.inf)
    return y if x == x else x  # noqa: PLR0124 (NaN)


@njit(fastmath=EXACT, error_model="numpy")
def _tanh32(x: Any) -> Any:
    """tanh in float32: an odd polynomial near 0 (Cephes), 1 - 2 / (exp(2|x|) + 1) beyond."""
    size = abs(x)
    s = x * x
    p = _F(-5.70498872745e-3)
    p = p * s + _F(2.06390887954e-2)
    p = p * s + _F(-5.37397155531e-2)
    p = p * s + _F(1.33314422036e-1)
    p = p * s + _F(-3.33332819422e-1)
    near = x + x * s * p
    far = _F(1.0) - _F(2.0) / (_exp32(_F(2.0) * min(size, _F(20.0))) + _F(1.0))
    far = far if x > _F(0.0) else -far
    y = near if size < _F(0.625) else far
    return y if x == x else x  # noqa: PLR0124 (NaN)


@register_jitable
def _single(x: Any) -> Any:
    """Return a float32 or bfloat16 as a float32."""
    return like(x, _F(0.0))


def exp(x: Any) -> Any:
    """Return the exponential of a float32 or float64."""
    return np.exp(x)


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent of a float32 or float64."""
    return np.tanh(x)


@overload(exp, strict=False)
def _exp(x: Any) -> Any:
    if x in _SINGLE:
        return lambda x: _exp32(_single(x))
    return lambda x: np.exp(x)  # noqa: PLW0108 (an overload is a Python function)


@overload(tanh, strict=False)
def _tanh(x: Any) -> Any:
    if x in _SINGLE:
        return lambda x: _tanh32(_single(x))
    return lambda x: np.tanh(x)  # noqa: PLW0108


@njit(fastmath=EXACT, error_model="numpy")
def minus(x: Any, y: Any) -> Any:
    """x - y as written: elsewhere (z - top) - s may become z - (top + s), which loses digits."""
    return x - y


def expm1_negative(x: Any) -> Any:
    """Return exp(x) - 1 of a float32 or float64 that is at most 0."""
    return np.expm1(x)


def log1p_fraction(u: Any) -> Any:
    """Return log(1 + u) of a float32 or float64 from 0 to 1."""
    return np.log1p(u)


@overload(expm1_negative, strict=False)
def _expm1_negative(x: Any) -> Any:
    if x in _SINGLE:
        return lambda x: _expm1_32(_single(x))
    return lambda x: np.expm1(x)  # noqa: PLW0108


@overload(log1p_fraction, strict=False)
def _log1p_fraction(u: Any) -> Any:
    if u in _SINGLE:
        return lambda u: _log1p32(_single(u))
    return lambda u: np.log1p(u)  # noqa: PLW0108


@register_jitable
def sigmoid(z: Any) -> Any:
    """1 / (1 + exp(-z)); exp overflows to infinity where the quotient is 0."""
    return like(1.0, z) / (like(1.0, z) + exp(-z))


@register_jitable
def softplus(z: Any) -> Any:
    """log(1 + exp(z)), without overflow and right to the last digits for very negative z."""
    positive = like(0.0, z) if z < like(0.0, z) else z  # NaN stays
    return positive + log1p_fraction(exp(-abs(z)))


@register_jitable
def normal_cdf(z: Any) -> Any:
    """Φ(z) = erfc(-z / √2) / 2, which keeps its digits for negative z."""
    return like(0.5, z) * like(math.erfc(-z * like(0.7071067811865476, z)), z)


@register_jitable
def normal_density(z: Any) -> Any:
    """φ(z) = exp(-z² / 2) / √(2π)."""
    return like(0.3989422804014327, z) * exp(like(-0.5, z) * z * z)
