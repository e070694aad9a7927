"""Optimizers: one pass over the flat vectors of parameters, gradients and state."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba import njit

from gpubp.kernels.numba import gradients
from gpubp.kernels.numba.compiled import FLAGS, jit_as
from gpubp.kernels.numba.elementary import EXACT


@njit(**EXACT)
def _of_square(share: Any, g: Any) -> Any:
    """(share g) g in this order: g² may be infinite where a share of it is not."""
    return share * g * g


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
        vi = b2 * v[i] + _of_square(r2, g)
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
        vi = keep * v[i] + _of_square(take, g)
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


# The update in one pass: a block of the vectors at a time, which stays in the first-level cache
# while its gradient is made ready and the optimizer runs over it.
_BLOCK = 1024


@njit(**FLAGS)
def _ready(
    grads: Any, params: Any, squares: Any, decays: bool,
    l1: float, l2: float, clip_value: float, clip_norm: float,
) -> None:  # fmt: skip
    """Add penalties to a block of the gradient and clip it, in this order."""
    if decays and l1 != 0:
        gradients.l1_penalty(params, grads, l1)
    if decays and l2 != 0:
        gradients.l2_penalty(params, grads, l2)
    if clip_value > 0:
        gradients.clip_value(grads, clip_value)
    if squares is not None and clip_norm > 0:
        gradients.clip_norm(squares, grads, clip_norm)


@njit(**FLAGS)
def round_bfloat16(params: Any, rounded: Any) -> None:
    """rounded = params, on storing."""
    for i in range(params.size):
        rounded[i] = params[i]


@njit(**FLAGS)
def _round(params: Any, rounded: Any, start: int, end: int) -> None:
    """Round a block, where somebody wants it."""
    if rounded is not None:
        round_bfloat16(params, rounded[start:end])


@njit(**FLAGS)
def _end(start: int, decaying: int, size: int) -> int:
    """Return where a block ends: where the parameters that decay do, at the latest."""
    limit = decaying if start < decaying else size
    return min(start + _BLOCK, limit)


@njit(**FLAGS)
def sgd_update(
    grads: Any, lr: Any, squares: Any, params: Any, rounded: Any,
    l1: float, l2: float, decaying: int, clip_value: float, clip_norm: float,
) -> None:  # fmt: skip
    """Penalties, clipping, then sgd."""
    start = 0
    while start < params.size:
        end = _end(start, decaying, params.size)
        g, p = grads[start:end], params[start:end]
        _ready(g, p, squares, start < decaying, l1, l2, clip_value, clip_norm)
        sgd(g, lr, p)
        _round(p, rounded, start, end)
        start = end


def _with_a_state(optimizer: Callable[..., None]) -> Callable[..., None]:
    """Return the update by an optimizer with one vector of state."""

    @jit_as(f"{optimizer.__name__}_update")
    def update(
        grads: Any, lr: Any, squares: Any, state: Any, params: Any, rounded: Any, *scalars: float
    ) -> None:
        l1, l2, decaying, clip_value, clip_norm = scalars[-5:]
        start = 0
        while start < params.size:
            end = _end(start, decaying, params.size)
            g, p = grads[start:end], params[start:end]
            _ready(g, p, squares, start < decaying, l1, l2, clip_value, clip_norm)
            optimizer(g, lr, state[start:end], p, *scalars[:-5])
            _round(p, rounded, start, end)
            start = end

    return update


momentum_update, nesterov_update = _with_a_state(momentum), _with_a_state(nesterov)
rmsprop_update, adagrad_update = _with_a_state(rmsprop), _with_a_state(adagrad)


@njit(**FLAGS)
def adam_update(
    grads: Any, lr: Any, step: Any, squares: Any, m: Any, v: Any, params: Any, rounded: Any,
    beta1: float, beta2: float, eps: float,
    l1: float, l2: float, decaying: int, clip_value: float, clip_norm: float,
) -> None:  # fmt: skip
    """Penalties, clipping, then adam."""
    adamw_update(
        grads, lr, step, squares, m, v, params, rounded,
        beta1, beta2, eps, 0.0, l1, l2, decaying, clip_value, clip_norm,
    )  # fmt: skip


@njit(**FLAGS)
def adamw_update(
    grads: Any, lr: Any, step: Any, squares: Any, m: Any, v: Any, params: Any, rounded: Any,
    beta1: float, beta2: float, eps: float, weight_decay: float,
    l1: float, l2: float, decaying: int, clip_value: float, clip_norm: float,
) -> None:  # fmt: skip
    """Penalties, clipping, then adamw for the parameters that decay and adam for the others."""
    start = 0
    while start < params.size:
        end = _end(start, decaying, params.size)
        g, p, mean, square = grads[start:end], params[start:end], m[start:end], v[start:end]
        _ready(g, p, squares, start < decaying, l1, l2, clip_value, clip_norm)
        if start < decaying and weight_decay != 0:
            adamw(g, lr, step, mean, square, p, beta1, beta2, eps, weight_decay)
        else:
            adam(g, lr, step, mean, square, p, beta1, beta2, eps)
        _round(p, rounded, start, end)
        start = end
