"""How a number is written: ``[+-]digits[.digits][e[+-]digits]`` of ASCII digits, finite in float64.

Python's ``float`` takes more: ``1_000``, full-width digits, ``inf``. Whole numbers that would lose
something as a float64, a zero at the front or digits beyond 2^53, are names made of digits, such as
02134.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMERAL = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"

_ONE = re.compile(NUMERAL)
_WHOLE = re.compile(r"[+-]?[0-9]+")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9]+(?:[eE][+-]?[0-9]+)?")
_LONGEST = 24  # bytes of a numeral that is read with the others of its column
_EXACT = 15  # digits up to which a decimal is a whole number divided by a power of ten, both exact
_POWERS = 10.0 ** np.arange(_EXACT + 1)
_MOST_DIGITS = 18  # of a whole number of 64 bits
_WHOLE_POWERS = 10 ** np.arange(_MOST_DIGITS + 1, dtype=np.int64)
_LARGEST_WHOLE = 2**53


@dataclass(frozen=True, slots=True)
class Parsed:
    """Texts as numbers; all arrays are of one shape.

    Attributes:
        values: NaN where a text is none.
        other: where a text is neither empty nor a number.
        names: where a number is a name made of digits.
        pointed: where a number has a point.
    """

    values: NDArray[np.float64]
    other: NDArray[np.bool_]
    names: NDArray[np.bool_]
    pointed: NDArray[np.bool_]

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """Return the attributes in their order."""
        return self.values, self.other, self.names, self.pointed


def number(text: str) -> float | None:
    """Return the number that a text is; None if it is none."""
    value = float(text) if _ONE.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None


def is_name(text: str) -> bool:
    """Return whether a text of digits would lose some as a float64."""
    if _LEADING_ZERO.fullmatch(text):
        return True
    if len(text) <= _EXACT or not _WHOLE.fullmatch(text):
        return False
    return len(text) > _LONGEST or abs(int(text)) > _LARGEST_WHOLE


def parse(data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Parsed:
    """Return the texts that lie in some bytes as numbers.

    Args:
        data: bytes.
        starts, ends: (N,) where in them each text begins and ends.
    """
    lengths = ends - starts
    long = lengths > _LONGEST
    lengths[long] = 0
    found = _read(data, starts, lengths)
    valid = found.valid & (lengths > 0)
    digits = found.digits
    values = np.where(found.negative, -found.mantissa, found.mantissa).astype(np.float64)
    if found.decimals.any():
        values /= _POWERS[np.minimum(found.decimals, _EXACT)]
    values[~valid] = np.nan
    pointed = found.pointed & valid
    names = valid & ~pointed & (digits > 1)
    names &= found.mantissa < _WHOLE_POWERS[np.clip(digits - 1, 0, _MOST_DIGITS)]
    # Python reads what is not exact: numbers of more digits, and those with an exponent.
    hard = valid & ((digits > _EXACT) | found.powered)
    if hard.any():
        rows, view = np.flatnonzero(hard), data.data
        places = zip(starts[rows].tolist(), ends[rows].tolist(), strict=True)
        values[rows] = [float(view[first:end]) for first, end in places]
        values[np.isinf(values)] = np.nan
    # One at a time: what may lose digits, and whatever is longer but may be a number.
    for row in np.flatnonzero((hard & ~pointed) | long).tolist():
        text = data[starts[row] : ends[row]].tobytes().decode()
        value = number(text) if long[row] else values[row]
        values[row] = math.nan if value is None else value
        names[row] = is_name(text)
    names &= ~np.isnan(values)
    other = np.isnan(values) & (ends > starts)
    return Parsed(values, other, names, pointed & ~other)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the characters of texts are, one array for all; no number where not ``valid``."""

    mantissa: NDArray[np.int64]  # all digits but the exponent's; wrong where they are more than 18
    digits: NDArray[np.int8]  # how many these are
    decimals: NDArray[np.int8]  # how many of them stand behind the point
    negative: NDArray[np.bool_]
    pointed: NDArray[np.bool_]
    powered: NDArray[np.bool_]  # with an exponent
    valid: NDArray[np.bool_]


def _read(data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> _Found:
    """Return what texts of at most ``_LONGEST`` bytes are, read a character of all at a time."""
    count = len(starts)
    mantissa = np.zeros(count, np.int64)
    digits, decimals, behind = (np.zeros(count, np.int8) for _ in range(3))
    negative, pointed, powered, bad, signed = (np.zeros(count, np.bool_) for _ in range(5))
    left = lengths.copy()  # of a text that is no number, 0
    for place in range(int(lengths.max(initial=0))):
        # A text that has ended reads on into the next; what it reads there is not used.
        character = data.take(starts + place, mode="clip")
        on = left > place
        digit = character - np.uint8(48)
        is_digit = on & (digit < 10)
        if powered.any():
            behind += is_digit & powered
            is_digit &= ~powered
        np.copyto(mantissa, mantissa * 10 + digit, where=is_digit)
        digits += is_digit
        if pointed.any():
            decimals += is_digit & pointed
        rest = np.flatnonzero(on & (digit >= 10))
        if not len(rest):
            signed[:] = False
            continue
        this = character[rest]
        sign = (this == 43) | (this == 45)
        point = this == 46
        power = (this | 32) == 101
        right = (
            (sign & ((place == 0) | signed[rest]))
            | (point & ~pointed[rest] & ~powered[rest])
            | (power & ~powered[rest] & (digits[rest] > 0))
        )
        if place == 0:
            negative[rest] = this == 45
        pointed[rest] |= point
        powered[rest] |= power
        signed[:] = False
        signed[rest] = power  # the exponent's sign may follow
        wrong = rest[~right]
        bad[wrong] = True
        left[wrong] = 0
        if not left.any():
            break
    valid = ~bad & (digits > 0) & (~powered | (behind > 0))
    return _Found(mantissa, digits, decimals, negative, pointed, powered, valid)
