"""Values of a recipe that come from a model's file: each is of its type, or a ValueError."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def text(value: Any) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    value.encode()  # half a character is none
    return value


def texts(values: Any) -> tuple[str, ...]:
    """Return different texts."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"{values!r} are not texts")
    found = tuple(map(text, values))
    if len(set(found)) < len(found):
        raise ValueError("a text is there twice")
    return found


def number(value: Any) -> float:
    """Return a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def scale(value: Any) -> float:
    """Return a number above 0."""
    if not number(value) > 0:
        raise ValueError(f"{value!r} is not above 0")
    return float(value)


def share(value: Any) -> float:
    """Return a number from 0 to below 1."""
    if not 0 <= number(value) < 1:
        raise ValueError(f"{value!r} is not a share")
    return float(value)


def whole(value: Any) -> int:
    """Return a whole number of 64 bits, at least 0."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def flag(value: Any) -> bool:
    """Return whether something is so."""
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value
