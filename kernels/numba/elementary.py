"""Exponential, logarithm, hyperbolic tangent and normal distribution that the compiler vectorises.

Numba from PyPI has no vector library, so ``np.exp`` in a loop is a scalar call for every element.
Here are polynomials instead, for float32 and float64 alike, without a branch: NaN stays NaN and
infinities have their limits. Errors, in units of the last place of the result, as
tests/kernels/test_elementary.py holds them: exp and expm1 1, logarithms 2, tanh 3, Φ 2 for positive
arguments and 8 for negative ones. Results go on into the subnormal numbers, unless the processor
flushes those to 0, as it does while a plan runs.

The coefficients are minimax: of all polynomials, or quotients of two, of their degree, those with
the smallest largest relative error of the function in the comment, found by Remez' exchange
algorithm (1934) in numbers of 50 digits. They are listed with the highest power first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from gpubp.kernels.numba.intrinsics import like, power_of_two, split_by_two, upper_digits

# Inlined, else the loops around do not vectorise; and no reassociation in here: the additions that
# split an argument are not to be simplified away.
EXACT: dict[str, Any] = {"forceinline": True, "fastmath": {"contract"}, "error_model": "numpy"}

# (exp(r) - 1 - r) / r² for |r| <= ½ ln 2, to 3.1e-9 and 3.7e-18 of exp(r).
_EXP_SINGLE = (
    1.3814596886739325738e-3, 8.3687169204490304913e-3, 4.1668388085053525670e-2,
    1.6666520631283009055e-1, 4.9999993447580323578e-1,
)  # fmt: skip
_EXP_DOUBLE = (
    2.5000058786581349686e-8, 2.7630248431010033500e-7, 2.7557586383200122735e-6,
    2.4801493098780286641e-5, 1.9841269506567292243e-4, 1.3888888943630199955e-3,
    8.3333333334944677136e-3, 4.1666666666530158516e-2, 1.6666666666666412511e-1,
    5.0000000000000106271e-1,
)  # fmt: skip
# (artanh(s) / s - 1) / s² in s² for 0 <= s <= ⅓, to 4.6e-9 and 1.4e-18 of artanh(s) / s.
_ARTANH_SINGLE = (1.401257022e-1, 1.399950669e-1, 2.001085307e-1, 3.333320651e-1)
_ARTANH_DOUBLE = (
    8.5098056068723068085e-2, 4.1697787638269719168e-2, 6.0531035756875634337e-2,
    6.6504793932773914086e-2, 7.6932805053917952337e-2, 9.0908719379370944612e-2,
    1.1111111985530573796e-1, 1.4285714273916792193e-1, 2.0000000000078696910e-1,
    3.3333333333333151709e-1,
)  # fmt: skip
# exp(q²/2) Φ(-q), half of erfcx(q / √2), as a quotient for 0 <= q <= 14 to 5.6e-9, and for
# 0 <= q <= 38.6 to 5.1e-17. No coefficient is negative, so that no digit is lost in a sum.
_TAIL_SINGLE = (
    4.0776375055977312058e-3, 4.0372740732637469766e-2, 1.8246238576585846637e-1,
    4.3725165946946906404e-1, 5.0000000275845368319e-1,
)  # fmt: skip
_TAIL_SINGLE_BELOW = (
    1.0220992718258502510e-2, 1.0120626315083600104e-1, 4.6743056557641940807e-1,
    1.1992930360471613862e0, 1.6723882743226377598e0, 1.0,
)  # fmt: skip
_TAIL_DOUBLE = (
    1.3813639660386768576e-6, 3.7156618519476475199e-5, 4.8934214982003152496e-4,
    4.0818706853742270027e-3, 2.3587349219955656730e-2, 9.7584433777940818391e-2,
    2.8907637197417547984e-1, 5.9368717356487531155e-1, 7.7462584282031240863e-1,
    4.9999999999999997487e-1,
)  # fmt: skip
_TAIL_DOUBLE_BELOW = (
    3.4625659748396637419e-6, 9.3137830568394095790e-5, 1.2300614348871627256e-3,
    1.0324870292473393572e-2, 6.0344390648664478719e-2, 2.5465334578111795625e-1,
    7.8131339918554586011e-1, 1.7132248629838562609e0, 2.5601181202681097730e0,
    2.3471362464434802527e0, 1.0,
)  # fmt: skip

_ROUNDING = (1.5 * 2.0**23, 1.5 * 2.0**52)  # adding it rounds a number to an integer
_LOG2E = 1.4426950408889634
# ln 2 in two parts: one that is exact times an integer, and the rest.
_LN2_HIGH = (0.693359375, 6.93147180369123816490e-1)
_LN2_LOW = (-2.12194440e-4, 1.90821492927058770002e-10)
# Beyond these, exp is 0 and infinite, whatever comes of the polynomial. On the way there 2**n is no
# normal number any more, so it is made _UP times too large, or too small, and the product mended.
_LOWEST, _HIGHEST = (-104.0, -745.5), (89.0, 710.0)
_UP = 64.0
_DOWN = 2.0**-_UP


def _of(x: Any, single: Any, double: Any) -> Any:
    """Return what is for the dtype of x."""
    return double if x.dtype == np.float64 else single


@overload(_of, strict=False)
def _of_type(x: Any, single: Any, double: Any) -> Any:
    if x == types.float64:
        return lambda x, single, double: double
    return lambda x, single, double: single


@njit(**EXACT)
def _polynomial(x: Any, coefficients: Any) -> Any:
    """Return the value of a polynomial, the highest power first."""
    value = like(coefficients[0], x)
    for coefficient in coefficients[1:]:
        value = value * x + like(coefficient, x)
    return value


@njit(**EXACT)
def _split(x: Any) -> Any:
    """Return r and, in its last bits, n for x = n ln 2 + r, |r| <= ½ ln 2."""
    rounding = like(_of(x, _ROUNDING[0], _ROUNDING[1]), x)
    shifted = x * like(_LOG2E, x) + rounding
    n = shifted - rounding
    high, low = _of(x, _LN2_HIGH[0], _LN2_HIGH[1]), _of(x, _LN2_LOW[0], _LN2_LOW[1])
    return shifted, x - n * like(high, x) - n * like(low, x)


@njit(**EXACT)
def _rest(r: Any) -> Any:
    """Return exp(r) - 1 for |r| <= ½ ln 2."""
    return _polynomial(r, _of(r, _EXP_SINGLE, _EXP_DOUBLE)) * (r * r) + r


@njit(**EXACT)
def exp_negative(x: Any) -> Any:
    """Return exp(x) of a float32 or float64 that is at most 0."""
    shifted, r = _split(x)
    power = power_of_two(shifted + like(_UP, x))
    y = (power * _rest(r) + power) * like(_DOWN, x)
    return like(0.0, x) if x < like(_of(x, _LOWEST[0], _LOWEST[1]), x) else y


@njit(**EXACT)
def exp(x: Any) -> Any:
    """Return the exponential of a float32 or float64."""
    shifted, r = _split(x)
    large = x > like(0.0, x)
    power = power_of_two(shifted + (like(-1.0, x) if large else like(_UP, x)))
    y = (power * _rest(r) + power) * (like(2.0, x) if large else like(_DOWN, x))
    y = like(0.0, x) if x < like(_of(x, _LOWEST[0], _LOWEST[1]), x) else y
    return like(np.inf, x) if x > like(_of(x, _HIGHEST[0], _HIGHEST[1]), x) else y


@njit(**EXACT)
def expm1_negative(x: Any) -> Any:
    """Return exp(x) - 1 of a float32 or float64 that is at most 0."""
    low = like(-50.0, x)  # it is -1 from far above that on
    shifted, r = _split(low if x < low else x)
    power = power_of_two(shifted)
    return power * _rest(r) + (power - like(1.0, x))


@njit(**EXACT)
def _twice_artanh(s: Any) -> Any:
    """Return log((1 + s) / (1 - s)) for |s| <= ⅓."""
    squared, double = s * s, s + s
    return double + double * squared * _polynomial(squared, _of(s, _ARTANH_SINGLE, _ARTANH_DOUBLE))


@njit(**EXACT)
def log1p_fraction(u: Any) -> Any:
    """Return log(1 + u) of a float32 or float64 from 0 to 1."""
    return _twice_artanh(u / (like(2.0, u) + u))


@njit(**EXACT)
def log_of_sum(x: Any, rest: Any) -> Any:
    """Return the logarithm of x = 1 + rest, to all the digits of ``rest``.

    x is finite and at least 1; where it is 2 or more, ``rest`` may be anything.
    """
    n, f = split_by_two(x)
    low = n * like(_of(x, _LN2_LOW[0], _LN2_LOW[1]), x)
    above_one = rest if n == like(0.0, x) else f - like(1.0, x)
    y = _twice_artanh(above_one / (f + like(1.0, x))) + low
    y = y + n * like(_of(x, _LN2_HIGH[0], _LN2_HIGH[1]), x)
    return y if x == x else x  # noqa: PLR0124 (NaN)


@njit(**EXACT)
def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent of a float32 or float64: -e / (2 + e), e = exp(-2|x|) - 1."""
    e = expm1_negative(like(-2.0, x) * abs(x))
    return math.copysign(e / (e + like(2.0, x)), x)


@njit(**EXACT)
def minus(x: Any, y: Any) -> Any:
    """x - y as written: elsewhere (z - top) - s may become z - (top + s), which loses digits."""
    return x - y


@njit(**EXACT)
def normal(z: Any) -> Any:
    """Return Φ(z), with all its digits for negative z, and exp(-z² / 2)."""
    size = abs(z)
    q = like(40.0, z) if size > like(40.0, z) else size  # where exp(-q² / 2) is 0
    # q² = high² + (q - high)(q + high), of which the first is exact: exp would magnify its error.
    high = upper_digits(q)
    large = like(-0.5, z) * high * high
    shifted, r = _split(large)
    power = power_of_two(shifted + like(_UP, z))
    bell = power * _rest(r + like(-0.5, z) * (q - high) * (q + high)) + power
    bell = like(0.0, z) if large < like(_of(z, _LOWEST[0], _LOWEST[1]), z) else bell
    above = _polynomial(q, _of(z, _TAIL_SINGLE, _TAIL_DOUBLE))
    below = _polynomial(q, _of(z, _TAIL_SINGLE_BELOW, _TAIL_DOUBLE_BELOW))
    down = like(_DOWN, z)
    tail = bell * (above / below) * down
    return like(1.0, z) - tail if z > like(0.0, z) else tail, bell * down


@njit(**EXACT)
def within(x: Any, low: float, high: float) -> Any:
    """min(max(x, low), high); NaN stays."""
    x = like(low, x) if x < like(low, x) else x
    return like(high, x) if x > like(high, x) else x


@njit(**EXACT)
def sigmoid(z: Any) -> Any:
    """1 / (1 + exp(-z)), from the exponential that can't overflow."""
    zero, one = like(0.0, z), like(1.0, z)
    u = exp_negative(-abs(z))
    return (u if z < zero else one) / (one + u)


@njit(**EXACT)
def softplus(z: Any) -> Any:
    """Return log(1 + exp(z)), right to the last digits for very negative z."""
    positive = like(0.0, z) if z < like(0.0, z) else z  # NaN stays
    return positive + log1p_fraction(exp_negative(-abs(z)))
