"""Optimizers: one update of the flat parameter vector, in place.

``lr`` and the bias corrections are float64 and are rounded once, to the dtype of the parameters.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace


def _rate(lr: Any, params: Any) -> Any:
    """Return a float64 factor in the dtype of the parameters."""
    return array_namespace(lr, params).astype(lr, params.dtype)


def sgd(grads: Any, lr: Any, params: Any) -> None:
    """params -= lr g."""
    params[...] = params - _rate(lr, params) * grads


def momentum(grads: Any, lr: Any, velocity: Any, params: Any, *, momentum: float = 0.9) -> None:
    """velocity = momentum velocity - lr g; params += velocity."""
    velocity[...] = momentum * velocity - _rate(lr, params) * grads
    params[...] = params + velocity


def nesterov(grads: Any, lr: Any, velocity: Any, params: Any, *, momentum: float = 0.9) -> None:
    """velocity = momentum velocity - lr g; params += momentum velocity - lr g."""
    change = _rate(lr, params) * grads
    velocity[...] = momentum * velocity - change
    params[...] = params + (momentum * velocity - change)


def adam(
    grads: Any,
    lr: Any,
    step: Any,
    m: Any,
    v: Any,
    params: Any,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> None:
    """Kingma & Ba 2015, algorithm 1, with both moments corrected for their start at 0."""
    xp = array_namespace(grads, lr, step, params)
    t = xp.astype(step + 1, xp.float64)
    first_correction = xp.astype(1.0 - beta1**t, params.dtype)
    second_correction = xp.astype(1.0 - beta2**t, params.dtype)
    m[...] = beta1 * m + (1.0 - beta1) * grads
    v[...] = beta2 * v + (1.0 - beta2) * grads * grads
    change = (m / first_correction) / (xp.sqrt(v / second_correction) + eps)
    params[...] = params - _rate(lr, params) * change


def adamw(
    grads: Any,
    lr: Any,
    step: Any,
    m: Any,
    v: Any,
    params: Any,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> None:
    """params -= lr weight_decay params, then as adam."""
    params[...] = _rate(1.0 - lr * weight_decay, params) * params
    adam(grads, lr, step, m, v, params, beta1=beta1, beta2=beta2, eps=eps)


def rmsprop(
    grads: Any, lr: Any, v: Any, params: Any, *, rho: float = 0.9, eps: float = 1e-8
) -> None:
    """v = rho v + (1 - rho) g²; params -= lr g / (sqrt(v) + eps)."""
    xp = array_namespace(grads, lr, params)
    v[...] = rho * v + (1.0 - rho) * grads * grads
    params[...] = params - _rate(lr, params) * grads / (xp.sqrt(v) + eps)


def adagrad(grads: Any, lr: Any, v: Any, params: Any, *, eps: float = 1e-10) -> None:
    """v += g²; params -= lr g / (sqrt(v) + eps)."""
    xp = array_namespace(grads, lr, params)
    v[...] = v + grads * grads
    params[...] = params - _rate(lr, params) * grads / (xp.sqrt(v) + eps)
