"""Optimizers: one pass over the flat vectors of parameters, gradients and state."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from gpubp.kernels.numba.compiled import FLAGS


@njit(**FLAGS)
def sgd(grads: Any, lr: Any, params: Any) -> None:
    """params -= lr g."""
    rate = params.dtype.type(lr[0])
    for i in range(params.size):
        params[i] -= rate * grads[i]


@njit(**FLAGS)
def momentum(grads: Any, lr: Any, velocity: Any, params: Any, momentum: float) -> None:
    """velocity = momentum velocity - lr g; params += velocity."""
    rate, mu = params.dtype.type(lr[0]), params.dtype.type(momentum)
    for i in range(params.size):
        v = mu * velocity[i] - rate * grads[i]
        velocity[i] = v
        params[i] += v


@njit(**FLAGS)
def nesterov(grads: Any, lr: Any, velocity: Any, params: Any, momentum: float) -> None:
    """velocity = momentum velocity - lr g; params += momentum velocity - lr g."""
    rate, mu = params.dtype.type(lr[0]), params.dtype.type(momentum)
    for i in range(params.size):
        down = rate * grads[i]
        v = mu * velocity[i] - down
        velocity[i] = v
        params[i] += mu * v - down


@njit(**FLAGS)
def adam(
    grads: Any, lr: Any, step: Any, m: Any, v: Any, params: Any,
    beta1: float, beta2: float, eps: float,
) -> None:  # fmt: skip
    """Algorithm 1 of Kingma & Ba; the bias corrections are two numbers a step."""
    real = params.dtype.type
    t = step[0] + 1
    b1, b2, e = real(beta1), real(beta2), real(eps)
    r1, r2 = real(1 - beta1), real(1 - beta2)
    rate = real(lr[0] / (1 - beta1**t))
    unbias = real(1 / math.sqrt(1 - beta2**t))
    for i in range(params.size):
        g = grads[i]
        mi = b1 * m[i] + r1 * g
        vi = b2 * v[i] + r2 * g * g
        m[i] = mi
        v[i] = vi
        params[i] -= rate * mi / (math.sqrt(vi) * unbias + e)


@njit(**FLAGS)
def adamw(
    grads: Any, lr: Any, step: Any, m: Any, v: Any, params: Any,
    beta1: float, beta2: float, eps: float, weight_decay: float,
) -> None:  # fmt: skip
    """Adam after params -= lr weight_decay params."""
    real = params.dtype.type
    keep = real(1 - lr[0] * weight_decay)
    for i in range(params.size):
        params[i] *= keep
    adam(grads, lr, step, m, v, params, beta1, beta2, eps)


@njit(**FLAGS)
def rmsprop(grads: Any, lr: Any, v: Any, params: Any, rho: float, eps: float) -> None:
    """v = rho v + (1 - rho) g²; params -= lr g / (sqrt(v) + eps)."""
    real = params.dtype.type
    rate, keep, take, e = real(lr[0]), real(rho), real(1 - rho), real(eps)
    for i in range(params.size):
        g = grads[i]
        vi = keep * v[i] + take * g * g
        v[i] = vi
        params[i] -= rate * g / (math.sqrt(vi) + e)


@njit(**FLAGS)
def adagrad(grads: Any, lr: Any, v: Any, params: Any, eps: float) -> None:
    """v += g²; params -= lr g / (sqrt(v) + eps)."""
    real = params.dtype.type
    rate, e = real(lr[0]), real(eps)
    for i in range(params.size):
        g = grads[i]
        vi = v[i] + g * g
        v[i] = vi
        params[i] -= rate * g / (math.sqrt(vi) + e)
