"""Losses: each adds its weighted sum to ``loss`` and writes its gradient, in one call.

An element, or a row, that the mask leaves out, or whose weight is 0, contributes exactly 0 to both,
whatever stands there.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device

from gpubp.kernels.reference import elementary


def _record(
    terms: Any, slope: Any, weights: Any, mask: Any, loss: Any, dz: Any, scale: float
) -> None:
    """Add scale · sum w · terms to loss, in float64, and write scale · w · slope to dz."""
    xp = array_namespace(terms)
    terms = xp.astype(terms, xp.float64)
    if weights is None:
        terms, slope = scale * terms, scale * slope
    else:
        column = weights[:, None]
        terms, slope = scale * xp.astype(column, xp.float64) * terms, scale * column * slope
        mask = column != 0.0 if mask is None else xp.logical_and(mask, column != 0.0)
    if mask is not None:
        terms, slope = xp.where(mask, terms, 0.0), xp.where(mask, slope, 0.0)
    loss[...] = loss + xp.sum(terms)
    dz[...] = slope


def squared_error(
    z: Any, t: Any, weights: Any, mask: Any, loss: Any, dz: Any, *, scale: float = 1.0
) -> None:
    """l = ½ (z - t)²."""
    r = z - t
    _record(0.5 * r * r, r, weights, mask, loss, dz, scale)


def absolute_error(
    z: Any, t: Any, weights: Any, mask: Any, loss: Any, dz: Any, *, scale: float = 1.0
) -> None:
    """l = |z - t|, with slope 0 at z = t."""
    xp = array_namespace(z, t)
    r = z - t
    _record(xp.abs(r), xp.sign(r), weights, mask, loss, dz, scale)


def huber(
    z: Any,
    t: Any,
    weights: Any,
    mask: Any,
    loss: Any,
    dz: Any,
    *,
    threshold: float = 1.0,
    scale: float = 1.0,
) -> None:
    """l = ½ r² if |r| <= threshold else threshold (|r| - ½ threshold), r = z - t."""
    r = z - t
    slope = elementary.clip(r, threshold)
    _record(slope * (r - 0.5 * slope), slope, weights, mask, loss, dz, scale)


def quantile(
    z: Any,
    t: Any,
    weights: Any,
    mask: Any,
    loss: Any,
    dz: Any,
    *,
    q: float = 0.5,
    scale: float = 1.0,
) -> None:
    """l = q (t - z) if t > z else (1 - q) (z - t), with slope 0 at z = t."""
    xp = array_namespace(z, t)
    r = z - t
    sign = xp.sign(r)
    slope = 0.5 * sign + (0.5 - q) * xp.abs(sign)  # 1 - q above, -q below; NaN stays NaN
    _record(xp.maximum(-q * r, (1.0 - q) * r), slope, weights, mask, loss, dz, scale)


def poisson(
    z: Any, t: Any, weights: Any, mask: Any, loss: Any, dz: Any, *, scale: float = 1.0
) -> None:
    """l = exp(z) - t z."""
    rate = array_namespace(z, t).exp(z)
    _record(rate - t * z, rate - t, weights, mask, loss, dz, scale)


def sigmoid_cross_entropy(
    z: Any, t: Any, weights: Any, mask: Any, loss: Any, dz: Any, *, scale: float = 1.0
) -> None:
    """l = max(z, 0) - t z + log1p(exp(-|z|))."""
    xp = array_namespace(z, t)
    u = xp.exp(-xp.abs(z))
    positive = z > 0.0
    # (1 - t) z or -t z, and 1 - t or -t: neither the value's terms nor the slope's cancel.
    outside, tail = xp.where(positive, 1.0 - t, -t), u / (1.0 + u)
    slope = outside + xp.where(positive, -tail, tail)
    _record(outside * z + xp.log1p(u), slope, weights, mask, loss, dz, scale)


def softmax_cross_entropy(
    z: Any,
    labels: Any,
    weights: Any,
    mask: Any,
    loss: Any,
    dz: Any,
    *,
    smoothing: float = 0.0,
    scale: float = 1.0,
) -> None:
    """Cross-entropy of the softmax of z with the label's one-hot row."""
    xp = array_namespace(z, labels)
    classes = xp.arange(z.shape[1], dtype=labels.dtype, device=device(labels))
    p = xp.astype(labels[:, None] == classes, z.dtype)
    known = (labels >= 0) & (labels < z.shape[1])
    p = xp.where(known[:, None], p, xp.nan)
    softmax_cross_entropy_dense(z, p, weights, mask, loss, dz, smoothing=smoothing, scale=scale)


def softmax_cross_entropy_dense(
    z: Any,
    t: Any,
    weights: Any,
    mask: Any,
    loss: Any,
    dz: Any,
    *,
    smoothing: float = 0.0,
    scale: float = 1.0,
) -> None:
    """Cross-entropy of the softmax of z with the distribution t, smoothed."""
    xp = array_namespace(z, t)
    total = xp.sum(t, axis=1, keepdims=True)
    q = (1.0 - smoothing) * t + (smoothing / z.shape[1]) * total
    log_a = elementary.log_softmax(z)
    # A class of no probability contributes nothing, also where its logit is -inf.
    terms = xp.where(q == 0.0, 0.0, -q * log_a)
    row_mask = None if mask is None else mask[:, None]
    _record(terms, xp.exp(log_a) * total - q, weights, row_mask, loss, dz, scale)
