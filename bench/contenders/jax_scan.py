"""JAX with optax: a compiled epoch, ``lax.scan`` over its steps, all data on the device."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

import numpy as np

from contenders.base import Contender
from networks import BETA1, BETA2, EPSILON, LEARNING_RATE, Network


class Scan(Contender):
    """The rows of an epoch are gathered before the scan, up to 1.6 times faster than within it."""

    def __init__(self, network: Network, threads: int | None) -> None:
        super().__init__(network, threads)
        if threads is not None:  # XLA makes as many threads as it may use processors, at its start
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
        import jax  # noqa: PLC0415
        import optax  # noqa: PLC0415
        from jax import lax  # noqa: PLC0415
        from jax import numpy as jnp  # noqa: PLC0415

        x, y = network.data()
        self.x, self.y = jnp.asarray(x), jnp.asarray(y, jnp.int32)
        self.random = np.random.default_rng(3)
        optimizer = optax.adam(LEARNING_RATE, BETA1, BETA2, EPSILON)

        def loss(params: Any, x: Any, y: Any) -> Any:
            for weight, bias in params[:-1]:
                x = jax.nn.relu(x @ weight + bias)
            weight, bias = params[-1]
            logits = x @ weight + bias
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        def step(state: Any, minibatch: Any) -> tuple[Any, Any]:
            params, moments = state
            value, gradient = jax.value_and_grad(loss)(params, *minibatch)
            updates, moments = optimizer.update(gradient, moments, params)
            return (optax.apply_updates(params, updates), moments), value

        @partial(jax.jit, donate_argnums=0)
        def epoch(state: Any, x: Any, y: Any, order: Any) -> tuple[Any, Any]:
            shape = network.steps, network.batch
            minibatches = x[order].reshape(*shape, -1), y[order].reshape(shape)
            return lax.scan(step, state, minibatches)

        params = jax.tree.map(jnp.asarray, network.layers())
        self.state = params, optimizer.init(params)
        self.epoch, self.mean_loss = epoch, jax.jit(loss)

    def train(self, epochs: int, shuffle: bool) -> float:
        rows = self.network.rows
        start = time.perf_counter()
        for _ in range(epochs):
            order = self.random.permutation(rows) if shuffle else np.arange(rows)
            self.state, losses = self.epoch(self.state, self.x, self.y, order.astype(np.int32))
        losses.block_until_ready()
        return time.perf_counter() - start

    def loss(self) -> float:
        return float(self.mean_loss(self.state[0], self.x, self.y))
