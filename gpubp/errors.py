"""The errors that gpubp raises on purpose: what was wrong, the value, and what to do about it.

Each also derives from the built-in exception that a NumPy user would expect, so that
``except ValueError`` keeps working. Nothing of gpubp is imported here: kernels use this module too.
"""

from __future__ import annotations

import difflib
import os
import sys
import warnings
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
    """A loss or a parameter became NaN or infinite.

    ``spoiled`` says whether parameters are: a loss that is not finite ends a run before its update.
    """

    def __init__(self, message: str, *, spoiled: bool = False) -> None:
        super().__init__(message)
        self.spoiled = spoiled


# What others call the things of gpubp's tables.
_ALIASES = {
    "none": "identity", "linear": "identity", "logistic": "sigmoid", "swish": "silu",
    "mse": "squared_error", "mean_squared_error": "squared_error", "l2_loss": "squared_error",
    "mae": "absolute_error", "mean_absolute_error": "absolute_error", "l1_loss": "absolute_error",
    "smooth_l1": "huber", "pinball": "quantile",
    "bce": "sigmoid_cross_entropy", "binary_crossentropy": "sigmoid_cross_entropy",
    "binary_cross_entropy": "sigmoid_cross_entropy",
    "ce": "softmax_cross_entropy", "crossentropy": "softmax_cross_entropy",
    "cross_entropy": "softmax_cross_entropy", "log_loss": "softmax_cross_entropy",
    "categorical_crossentropy": "softmax_cross_entropy",
    "sparse_categorical_crossentropy": "softmax_cross_entropy",
    "xavier_uniform": "glorot_uniform", "xavier_normal": "glorot_normal",
    "kaiming_uniform": "he_uniform", "kaiming_normal": "he_normal",
    "float32": "fp32", "float64": "fp64", "bfloat16": "bf16", "gpu": "cuda",
}  # fmt: skip


def unknown_name(kind: str, name: object, known: Iterable[str]) -> InputError:
    """Return the error for a name that is in none of gpubp's tables, with the nearest that is."""
    names = sorted(known)
    said = str(name).casefold()
    alias = _ALIASES.get(said.replace("-", "_").replace(" ", "_"))
    folded = {known.casefold(): known for known in names}
    close = [alias] if alias in names else difflib.get_close_matches(said, folded, n=1)
    hint = f"did you mean {folded[close[0]]!r}? " if close else ""
    return InputError(f"unknown {kind} {name!r}; {hint}known: {', '.join(names)}")


def warn(message: str, category: type[Warning]) -> None:
    """Warn of a line of the user's: the nearest caller that is not of gpubp."""
    here = (os.path.dirname(__file__) + os.sep, os.path.dirname(_kernels_file()) + os.sep)
    level, frame = 1, sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(here):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]  # None at the end
    warnings.warn(message, category, stacklevel=level + 1)


def _kernels_file() -> str:
    """Return the file of gpubp.kernels, which need not lie below this one's folder."""
    return getattr(sys.modules.get("gpubp.kernels"), "__file__", None) or __file__


class CopyWarning(UserWarning):
    """An array had to be copied because its layout cannot be used in place."""
