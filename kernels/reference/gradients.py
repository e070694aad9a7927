"""What is done to the flat gradient before the update: penalties, clipping, addition."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from gpubp.kernels.reference.elementary import clip

_SMALL = 2.0**-64  # below it, a factor of the gradient is applied as its root, twice


def l1_penalty(params: Any, grads: Any, *, l1: float) -> None:
    """grads += l1 sign(params)."""
    grads[...] = grads + l1 * array_namespace(params).sign(params)


def l2_penalty(params: Any, grads: Any, *, l2: float) -> None:
    """grads += l2 params."""
    grads[...] = grads + l2 * params


def clip_value(grads: Any, *, limit: float) -> None:
    """grads = min(max(grads, -limit), limit)."""
    grads[...] = clip(grads, limit)


def clip_norm(squares: Any, grads: Any, *, limit: float) -> None:
    """grads *= min(1, limit / norm), norm² the sum of ``squares``; NaN where that is not finite."""
    xp = array_namespace(squares, grads)
    norm = xp.sqrt(xp.sum(squares))
    factor = xp.where(xp.isinf(norm), xp.nan, limit / xp.maximum(norm, limit))
    # Of a small one, which float32 has not to all its digits or not at all, the root, twice.
    root, small = xp.sqrt(factor), factor < _SMALL
    first = xp.astype(xp.where(small, root, 1.0), grads.dtype)
    second = xp.astype(xp.where(small, root, factor), grads.dtype)
    grads[...] = grads * first * second


def add(x: Any, y: Any) -> None:
    """y += x."""
    y[...] = y + x
