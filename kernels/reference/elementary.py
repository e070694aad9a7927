"""Functions that reference kernels share, or that the array-API standard does not have so."""

from __future__ import annotations

import math
from typing import Any

from array_api_compat import array_namespace

# Step and nodes of the midpoint rule below; its error is exp(-(pi / step)²) = 7e-18.
_STEP = 0.5
_FAR = 30.0  # where exp(-x²) is 0, and the product with an infinite x would not be
# From where on gelu, in both forms, and silu are 0 or z and their slopes 0 or 1, in float64 too: a
# factor that may be infinite ends there, because 0 times infinity is none of these.
FAR, FAR_OF_EXP = 40.0, 800.0
_NODES = tuple(((n + 0.5) * _STEP) ** 2 for n in range(13))


def clip(x: Any, limit: float) -> Any:
    """min(max(x, -limit), limit); NaN stays.

    The standard's own clip, as array-api-compat has it, picks elements by a mask, for which a GPU
    must tell the host how many there are.
    """
    xp = array_namespace(x)
    return xp.minimum(xp.maximum(x, -limit), limit)


def sigmoid(z: Any) -> Any:
    """1 / (1 + exp(-z)), from the exponential that cannot overflow."""
    xp = array_namespace(z)
    e = xp.exp(-xp.abs(z))
    return xp.where(z >= 0.0, 1.0, e) / (1.0 + e)


def softplus(z: Any) -> Any:
    """log(1 + exp(z)) = max(z, 0) + log1p(exp(-|z|))."""
    xp = array_namespace(z)
    return xp.maximum(z, 0.0) + xp.log1p(xp.exp(-xp.abs(z)))


def log_softmax(z: Any) -> Any:
    """z_k - m - log sum_j exp(z_j - m), m = max_j z_j, along the last axis."""
    xp = array_namespace(z)
    shifted = z - xp.max(z, axis=-1, keepdims=True)
    e = xp.exp(shifted)
    total = xp.sum(e, axis=-1, keepdims=True)
    # A total below 2 is 1 and its rest, which has the digits that the total has not.
    rest = xp.sum(xp.where(e < 1.0, e, 0.0), axis=-1, keepdims=True)
    return shifted - xp.where(total < 2.0, xp.log1p(rest), xp.log(total))


def normal_cdf(z: Any) -> Any:
    """Φ(z) = erfc(-z / √2) / 2, with its relative precision kept for negative z.

    The standard has no erf. With x = |z| / √2,
    erfc(x) = (x / π) exp(-x²) ∫ exp(-t²) / (t² + x²) dt over the real line; the midpoint rule of
    step h, corrected by the residue of the pole at t = ix while that lies within π / h of the real
    line, is right to the last digits (Hunter & Regan 1972, A note on the evaluation of the
    complementary error function).
    """
    xp = array_namespace(z)
    x = xp.minimum(xp.abs(z) * math.sqrt(0.5), _FAR)
    square = x * x
    integral = sum(2.0 * _STEP * math.exp(-node) / (node + square) for node in _NODES)
    e = xp.exp(x * (-2.0 * math.pi / _STEP))
    residue = xp.where(x < math.pi / _STEP, 2.0 * e / (1.0 + e), 0.0)
    upper_tail = 0.5 * (x * xp.exp(-square) * integral / math.pi + residue)
    return xp.where(z > 0.0, 1.0 - upper_tail, upper_tail)


def normal_density(z: Any) -> Any:
    """φ(z) = exp(-z² / 2) / √(2π)."""
    xp = array_namespace(z)
    return xp.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
