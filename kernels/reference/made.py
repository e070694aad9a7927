"""Gives kernels that are made of others the names that their contracts give them."""

from __future__ import annotations

import inspect
from collections.abc import Callable

Reference = Callable[..., None]


def named(kernel: Reference, name: str, operands: str, doc: str, *like: Reference) -> Reference:
    """Give a made kernel its name, its operands' names and the scalars of those that it is like."""
    parameter = inspect.Parameter
    scalars = [p for part in like for p in scalars_of(part)]
    positional = [parameter(name, parameter.POSITIONAL_OR_KEYWORD) for name in operands.split()]
    kernel.__signature__ = inspect.Signature([*positional, *scalars])  # type: ignore[attr-defined]
    kernel.__name__ = kernel.__qualname__ = name
    kernel.__doc__ = doc
    return kernel


def scalars_of(kernel: Reference) -> list[inspect.Parameter]:
    """Return the scalars of a kernel as they stand in its signature."""
    parameters = inspect.signature(kernel).parameters.values()
    return [p for p in parameters if p.kind == p.KEYWORD_ONLY]


def operands_of(kernel: Reference) -> list[str]:
    """Return the names of a kernel's operands."""
    parameters = inspect.signature(kernel).parameters.values()
    return [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
