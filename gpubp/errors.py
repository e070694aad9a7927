"""The errors that gpubp raises on purpose: what was wrong, the value, and what to do about it.

Each also derives from the built-in exception that a NumPy user would expect, so that
``except ValueError`` keeps working. Nothing of gpubp is imported here: kernels use this module too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class GpubpError(Exception):
    """Base of every error that gpubp raises on purpose."""


class InputError(GpubpError, ValueError):
    """An argument or a data set cannot be used: the message names it, its value and the remedy."""


class OperandError(InputError):
    """A kernel's operand has the wrong shape, dtype or layout, or an ``out`` may not be used."""


class PlanError(GpubpError, ValueError):
    """A plan is not well formed: a shape, a dtype, an alias or an undefined buffer."""


class DeviceError(GpubpError, RuntimeError):
    """A device or backend that was asked for by name cannot be had."""


class DeviceMemoryError(GpubpError, MemoryError):
    """A device has not enough free memory: how much is needed, how much is free, what would fit."""


class CheckpointError(GpubpError, ValueError):
    """A model file is corrupt, cut short, foreign or of another version."""


class SaveError(GpubpError, OSError):
    """A file could not be written; what was there before is still there."""


class NonFiniteError(GpubpError, ArithmeticError):
    """The loss became NaN or infinite during training."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> InputError:
    """Return the error for a name that is in none of gpubp's tables, with the nearest that is."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return InputError(f"unknown {kind} {name!r}; {hint}known: {', '.join(names)}")


class CopyWarning(UserWarning):
    """An array had to be copied because its layout cannot be used in place."""
