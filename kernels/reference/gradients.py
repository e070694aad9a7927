"""What is done to the flat gradient before the update: penalties, clipping, addition."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from gpubp.kernels.reference.elementary import clip


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
    """grads *= min(1, limit / norm), norm² the sum of ``squares``."""
    xp = array_namespace(squares, grads)
    norm = xp.sqrt(xp.sum(squares))
    grads[...] = grads * xp.astype(limit / xp.maximum(norm, limit), grads.dtype)


def add(x: Any, y: Any) -> None:
    """y += x."""
    y[...] = y + x
