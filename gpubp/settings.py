"""Scalar settings of schedules, initializers and the like: rules as data, checked when made.

    @dataclass(frozen=True)
    class Cosine(Settings):
        floor: float = number(0.0, least=0, most=1)

A rule also turns NumPy scalars into plain Python numbers, so that every configuration is JSON.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from gpubp.errors import InputError

if TYPE_CHECKING:
    from gpubp.registry import Registry


@dataclass(frozen=True, slots=True)
class Rule:
    """Which numbers a setting may be; infinity and NaN never are."""

    above: float = -math.inf
    least: float = -math.inf
    below: float = math.inf
    most: float = math.inf
    whole: bool = False
    optional: bool = False

    def __str__(self) -> str:
        """Return the rule in words, such as ``a finite number above 0 and at most 1``."""
        limits = {
            "above": self.above, "at least": self.least,
            "below": self.below, "at most": self.most,
        }  # fmt: skip
        words = [f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit)]
        return (
            f"a {'whole' if self.whole else 'finite'} number {' and '.join(words)}".rstrip()
            + " or None" * self.optional
        )

    def admits(self, value: Any) -> bool:
        """Return whether ``value`` keeps the rule."""
        if value is None:
            return self.optional
        plain = self._plain(value)
        return (
            plain is not None
            and self.above < plain < self.below
            and self.least <= plain <= self.most
        )

    def check(self, what: str, value: Any) -> Any:
        """Return ``value`` as a plain Python number (or None).

        Raises:
            InputError: it breaks the rule; the message says of ``what``.
        """
        if not self.admits(value):
            raise InputError(f"{what} must be {self}, got {value!r}")
        return None if value is None else self._plain(value)

    def _plain(self, value: Any) -> int | float | None:
        """Return a number as Python's, None of what is none."""
        if self.whole:
            return whole_number(value)
        if isinstance(value, bool | np.bool) or not isinstance(value, numbers.Real):
            return None
        try:
            return float(value)
        except OverflowError:  # a whole number beyond float64, as no rule admits
            return math.inf


def whole_number(value: Any) -> int | None:
    """Return what ``operator.index`` takes as an int, NumPy's integers too; None of all else.

    A truth value is no number here.
    """
    if isinstance(value, bool | np.bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def number(default: Any = dataclasses.MISSING, **limits: Any) -> Any:
    """Return a dataclass field for a finite real number within ``limits`` (see :class:`Rule`).

    Without a default it must be given; with None for a default it may be None.
    """
    return field(default=default, metadata={"rule": Rule(optional=default is None, **limits)})


def whole(default: Any = dataclasses.MISSING, **limits: Any) -> Any:
    """Return a dataclass field as :func:`number` does, for a whole number."""
    return number(default, whole=True, **limits)


def entry(table: Registry[Any], default: str) -> Any:
    """Return a dataclass field for an entry of ``table``: a name, an object or a configuration."""
    return field(default=default, metadata={"table": table})


@dataclass(frozen=True)
class Settings:
    """Base of the frozen dataclasses whose fields are declared with the functions above."""

    def __post_init__(self) -> None:
        """Check every field against its rule.

        Raises:
            InputError: a value breaks its rule, or a name is not in its table.
        """
        for declared in dataclasses.fields(self):
            value = getattr(self, declared.name)
            rule, table = declared.metadata.get("rule"), declared.metadata.get("table")
            if table is not None:
                value = table.get(value)
            elif rule is not None:
                value = rule.check(f"{type(self).__name__}: {declared.name}", value)
            object.__setattr__(self, declared.name, value)

    def brief(self) -> str:
        """Return it as it would be written: without the fields that have their default."""
        words = []
        for declared in dataclasses.fields(self):
            value = getattr(self, declared.name)
            if declared.default is dataclasses.MISSING:
                words.append(repr(value))
            elif value != declared.default:
                words.append(f"{declared.name}={value!r}")
        return f"{type(self).__name__}({', '.join(words)})"
