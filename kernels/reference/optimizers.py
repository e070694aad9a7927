"""Optimizers: one update of the flat parameter vector, in place.

``lr`` and the bias corrections are float64 and are rounded once, to the dtype of the parameters.
Each has its ``_update`` below it, made of it by ``_with_preparation``.
"""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from gpubp.kernels.reference import gradients
from gpubp.kernels.reference.made import Reference, named, operands_of, scalars_of


def _rate(lr: Any, params: Any) -> Any:
    """Return a float64 factor in the dtype of the parameters."""
    return array_namespace(lr, params).astype(lr, params.dtype)


def round_bfloat16(params: Any, rounded: Any) -> None:
    """rounded = params in the dtype of rounded."""
    rounded[...] = array_namespace(params, rounded).astype(params, rounded.dtype)


def _prepare(
    params: Any,
    grads: Any,
    squares: Any,
    *,
    l1: float = 0.0,
    l2: float = 0.0,
    decaying: int = 0,
    clip_value: float = 0.0,
    clip_norm: float = 0.0,
) -> None:
    """Add the penalties on the first parameters to the gradient and clip it."""
    if l1:
        gradients.l1_penalty(params[:decaying], grads[:decaying], l1=l1)
    if l2:
        gradients.l2_penalty(params[:decaying], grads[:decaying], l2=l2)
    if clip_value > 0:
        gradients.clip_value(grads, limit=clip_value)
    if clip_norm > 0:
        gradients.clip_norm(squares, grads, limit=clip_norm)


def _with_preparation(optimizer: Reference, after_decay: Reference | None = None) -> Reference:
    """Return the optimizer with what is done to the gradient before it, and with the rounding.

    One that decays weights is given with the optimizer that it is ``after_decay``.
    """
    names = operands_of(optimizer)
    clock = names[: 3 if "step" in names else 2]
    order = [*clock, "squares", *names[len(clock) :], "rounded"]

    preparation = [scalar.name for scalar in scalars_of(_prepare)]

    def kernel(*operands: Any, weight_decay: float = 0.01, **values: Any) -> None:
        given = dict(zip(order, operands, strict=True))
        params, rounded, squares = given["params"], given.pop("rounded"), given.pop("squares")
        first = {name: values.pop(name) for name in preparation if name in values}
        _prepare(params, given["grads"], squares, **first)
        if after_decay is not None:
            _decay(given["lr"], params[: first.get("decaying", 0)], weight_decay)
        (after_decay or optimizer)(**given, **values)
        if rounded is not None:
            round_bfloat16(params, rounded)

    name = f"{optimizer.__name__}_update"
    doc = f"Penalties and clipping, then {optimizer.__name__}, then rounding."
    return named(kernel, name, " ".join(order), doc, optimizer, _prepare)


def _decay(lr: Any, params: Any, weight_decay: float) -> None:
    """params -= lr weight_decay params."""
    params[...] = _rate(1.0 - lr * weight_decay, params) * params


def sgd(grads: Any, lr: Any, params: Any) -> None:
    """params -= lr g."""
    params[...] = params - _rate(lr, params) * grads


sgd_update = _with_preparation(sgd)


def momentum(grads: Any, lr: Any, velocity: Any, params: Any, *, momentum: float = 0.9) -> None:
    """velocity = momentum velocity - lr g; params += velocity."""
    velocity[...] = momentum * velocity - _rate(lr, params) * grads
    params[...] = params + velocity


momentum_update = _with_preparation(momentum)


def nesterov(grads: Any, lr: Any, velocity: Any, params: Any, *, momentum: float = 0.9) -> None:
    """velocity = momentum velocity - lr g; params += momentum velocity - lr g."""
    change = _rate(lr, params) * grads
    velocity[...] = momentum * velocity - change
    params[...] = params + (momentum * velocity - change)


nesterov_update = _with_preparation(nesterov)


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
    second_correction = xp.astype(xp.sqrt(1.0 - beta2**t), params.dtype)
    m[...] = beta1 * m + (1.0 - beta1) * grads
    v[...] = beta2 * v + (1.0 - beta2) * grads * grads
    # Roots apart: v may be so large that v / (1 - beta2^t) is infinite.
    change = (m / first_correction) / (xp.sqrt(v) / second_correction + eps)
    params[...] = params - _rate(lr, params) * change


adam_update = _with_preparation(adam)


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
    _decay(lr, params, weight_decay)
    adam(grads, lr, step, m, v, params, beta1=beta1, beta2=beta2, eps=eps)


adamw_update = _with_preparation(adamw, after_decay=adam)


def rmsprop(
    grads: Any, lr: Any, v: Any, params: Any, *, rho: float = 0.9, eps: float = 1e-8
) -> None:
    """v = rho v + (1 - rho) g²; params -= lr g / (sqrt(v) + eps)."""
    xp = array_namespace(grads, lr, params)
    v[...] = rho * v + (1.0 - rho) * grads * grads
    params[...] = params - _rate(lr, params) * grads / (xp.sqrt(v) + eps)


rmsprop_update = _with_preparation(rmsprop)


def adagrad(grads: Any, lr: Any, v: Any, params: Any, *, eps: float = 1e-10) -> None:
    """v += g²; params -= lr g / (sqrt(v) + eps)."""
    xp = array_namespace(grads, lr, params)
    v[...] = v + grads * grads
    params[...] = params - _rate(lr, params) * grads / (xp.sqrt(v) + eps)


adagrad_update = _with_preparation(adagrad)
