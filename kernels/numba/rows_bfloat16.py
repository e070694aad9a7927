"""The kernels that keep exponentials in their output until they are summed, for bfloat16.

An output of bfloat16 is too coarse for that, so these take each exponential twice, row by row.
entry.py has them in place of the kernels of the same names in activations.py and losses.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from gpubp.kernels.numba.compiled import FLAGS
from gpubp.kernels.numba.elementary import exp, minus
from gpubp.kernels.numba.rows import below_one

_F = np.float32


@njit(**FLAGS)
def _sums(z: Any) -> Any:
    """Return of a row its largest element, Σ exp(z - top), log of that and Σ (z - top)."""
    top = _F(0) + z[0]
    for k in range(1, z.size):
        top = z[k] if z[k] > top else top
    total, rest, plain = _F(0), _F(0), _F(0)
    for k in range(z.size):
        d = minus(z[k], top)
        e = exp(d)
        total += e
        rest += below_one(e)
        plain += d
    # A total below 2 is 1 and its rest, which has the digits that the total has not.
    return top, total, math.log1p(rest) if total < 2 else math.log(total), plain


@njit(**FLAGS)
def softmax(z: Any, a: Any) -> None:
    """a_k = exp(z_k - max z) / sum_j exp(z_j - max z), row by row; a may be z."""
    for i in range(z.shape[0]):
        top, total, _, _ = _sums(z[i])
        for k in range(z.shape[1]):
            a[i, k] = exp(z[i, k] - top) / total


@njit(**FLAGS)
def softmax_cross_entropy(
    z: Any, labels: Any, weights: Any, mask: Any, loss: Any, dz: Any, smoothing: float, scale: float
) -> None:
    """Cross-entropy of softmax(z) with smoothed one-hot rows; dz may be z."""
    rows, classes = z.shape
    sum_loss = 0.0
    for i in range(rows):
        weight = scale if weights is None else scale * weights[i]
        if (mask is not None and not mask[i]) or (weights is not None and weights[i] == 0):
            dz[i, :] = 0
            continue
        label = labels[i]
        if not 0 <= label < classes:  # who owns the array may have changed it meanwhile
            label, weight = 0, np.nan
        top, total, log_total, plain = _sums(z[i])
        loss_i = log_total - (1 - smoothing) * minus(z[i, label], top)
        if smoothing != 0:
            loss_i -= smoothing / classes * plain
        sum_loss += weight * loss_i
        share, rest = _F(weight) / total, _F(weight * smoothing / classes)
        kept = _F(weight * (1 - smoothing))
        for k in range(classes):
            d = exp(minus(z[i, k], top)) * share - rest
            dz[i, k] = d - kept if k == label else d
    loss[0] += sum_loss


@njit(**FLAGS)
def softmax_cross_entropy_dense(
    z: Any, t: Any, weights: Any, mask: Any, loss: Any, dz: Any, smoothing: float, scale: float
) -> None:
    """Cross-entropy of softmax(z) with smoothed rows t of any total; dz may be z."""
    rows, classes = z.shape
    sum_loss = 0.0
    for i in range(rows):
        weight = scale if weights is None else scale * weights[i]
        if (mask is not None and not mask[i]) or (weights is not None and weights[i] == 0):
            dz[i, :] = 0
            continue
        top, total, log_total, plain = _sums(z[i])
        mass, agreement = 0.0, 0.0
        for k in range(classes):
            mass += t[i, k]
            if t[i, k] != 0:  # else an impossible class, of logit -inf, would give 0 · inf
                agreement += t[i, k] * minus(z[i, k], top)
        loss_i = mass * log_total - (1 - smoothing) * agreement
        if smoothing != 0:
            loss_i -= smoothing * mass / classes * plain
        sum_loss += weight * loss_i
        share, rest = _F(weight * mass) / total, _F(weight * smoothing * mass / classes)
        kept = _F(weight * (1 - smoothing))
        for k in range(classes):
            dz[i, k] = exp(minus(z[i, k], top)) * share - rest - kept * t[i, k]
    loss[0] += sum_loss
