"""JAX: steps compiled as one ``lax.scan``, the state kept on the device."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from gpu.cases import BETA1, BETA2, EPSILON
from gpu.contenders.base import Contender, Turn

_PRECISIONS = {"fp32": "highest", "tf32": "tensorfloat32", "bf16": "default"}


class Steps(Contender):
    """Steps on one minibatch that stays where it is; Adam by hand, which XLA makes one pass of.

    bf16 rounds weights and activations for the products, which accumulate in float32.
    """

    def __init__(self, case: str, precision: str, stand_in: bool) -> None:
        super().__init__(case, precision, stand_in)
        found = jax.default_backend()
        if not stand_in and found != "gpu":
            raise RuntimeError(f"JAX computes on {found!r}; pip install 'jax[cuda13]'")
        jax.config.update("jax_default_matmul_precision", _PRECISIONS[precision])
        self._x, self._y = map(jnp.asarray, self.case.data(self.case.batch, seed=1))
        self._scan = jax.jit(self._steps, static_argnums=3, donate_argnums=0)

    def losses(self) -> list[float]:
        _, losses = self._scan(self._first(), self._x, self._y, self.case.checked)
        self._state = self._first()
        self.turn()
        return [float(loss) for loss in losses]

    def turn(self) -> Turn:
        start = time.perf_counter()
        self._state, losses = self._scan(self._state, self._x, self._y, self.case.turn)
        losses.block_until_ready()
        return {"wall": (time.perf_counter() - start) / self.case.turn}

    def _first(self) -> Any:
        params = [tuple(map(jnp.asarray, layer)) for layer in self.case.layers()]
        zeros = partial(jax.tree.map, jnp.zeros_like)
        return params, zeros(params), zeros(params), jnp.zeros(())

    def _steps(self, state: Any, x: Any, y: Any, count: int) -> tuple[Any, Any]:
        return lax.scan(lambda carried, _: self._step(carried, x, y), state, None, length=count)

    def _step(self, state: Any, x: Any, y: Any) -> tuple[Any, Any]:
        params, first, second, steps = state
        loss, gradients = jax.value_and_grad(self._loss)(params, x, y)
        steps = steps + 1
        rate, unbias = self.case.rate / (1 - BETA1**steps), 1 / (1 - BETA2**steps)
        first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, gradients)
        second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, second, gradients)
        params = jax.tree.map(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v * unbias) + EPSILON), params, first, second
        )
        return (params, first, second, steps), loss

    def _loss(self, params: Any, x: Any, y: Any) -> Any:
        narrow = jnp.bfloat16 if self.precision == "bf16" else jnp.float32
        for weight, bias in params[:-1]:
            x = jax.nn.relu(x.astype(narrow) @ weight.astype(narrow) + bias.astype(narrow))
        weight, bias = params[-1]
        z = (x.astype(narrow) @ weight.astype(narrow) + bias.astype(narrow)).astype(jnp.float32)
        if self.case.loss == "squared_error":
            return ((z - y) ** 2).sum(axis=1).mean()
        return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1).mean()
