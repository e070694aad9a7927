"""JAX with optax: a compiled epoch, ``lax.scan`` over its steps, all data on the device."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from gpubp.bench.cases import BETA1, BETA2, EPSILON, LEARNING_RATE, Case
from gpubp.bench.contenders.base import Contender

_MATMUL = {"fp32": "highest", "fp64": "highest", "tf32": "tensorfloat32", "bf16": "default"}


class Scan(Contender):
    """The rows of an epoch are gathered before the scan, up to 1.6 times faster than within it."""

    def __init__(self, case: Case, threads: int | None) -> None:
        super().__init__(case, threads)
        if threads is not None:  # XLA makes as many threads as it may use processors, at its start
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
        import jax  # noqa: PLC0415
        import optax  # noqa: PLC0415
        from jax import lax  # noqa: PLC0415
        from jax import numpy as jnp  # noqa: PLC0415

        kind, _, index = case.device.partition(":")
        jax.config.update("jax_default_device", jax.devices(kind)[int(index or 0)])
        jax.config.update("jax_enable_x64", case.precision == "fp64")
        jax.config.update("jax_default_matmul_precision", _MATMUL[case.precision])
        wide = jnp.float64 if case.precision == "fp64" else jnp.float32
        narrow = jnp.bfloat16 if case.precision == "bf16" else wide
        function = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}
        activate = function[case.activation]
        (self.x, self.y), self.held_out = (
            (jnp.asarray(x, wide), jnp.asarray(y, jnp.int32))
            for x, y in (case.data(), case.held_out())
        )
        self.random = np.random.default_rng(3)
        optimizer = optax.adam(LEARNING_RATE, BETA1, BETA2, EPSILON)

        def logits(params: Any, x: Any) -> Any:
            x = x.astype(narrow)
            *hidden, last = jax.tree.map(lambda p: p.astype(narrow), params)
            for weight, bias in hidden:
                x = activate(x @ weight + bias)
            return (x @ last[0] + last[1]).astype(wide)

        def loss(params: Any, x: Any, y: Any) -> Any:
            z = logits(params, x)
            return optax.softmax_cross_entropy_with_integer_labels(z, y).mean()

        def evaluate(params: Any, x: Any, y: Any) -> Any:
            z = logits(params, x)
            losses = optax.softmax_cross_entropy_with_integer_labels(z, y)
            return losses.mean(), (z.argmax(axis=1) == y).mean()

        def step(state: Any, minibatch: Any) -> tuple[Any, Any]:
            params, moments = state
            value, gradient = jax.value_and_grad(loss)(params, *minibatch)
            updates, moments = optimizer.update(gradient, moments, params)
            return (optax.apply_updates(params, updates), moments), value

        def epoch(state: Any, x: Any, y: Any, order: Any) -> tuple[Any, Any]:
            shape = case.steps, case.batch
            minibatches = x[order].reshape(*shape, -1), y[order].reshape(shape)
            carried: tuple[Any, Any] = lax.scan(step, state, minibatches)
            return carried

        params = jax.tree.map(lambda values: jnp.asarray(values, wide), case.layers())
        self.state = params, optimizer.init(params)
        # Compiled here, not at the first call: no epoch is slower than another.
        order = np.arange(case.rows, dtype=np.int32)
        once = jax.jit(epoch, donate_argnums=0).lower(self.state, self.x, self.y, order)
        self.run_epoch = once.compile()
        self.mean_loss = jax.jit(loss).lower(params, self.x, self.y).compile()
        self.metrics = jax.jit(evaluate).lower(params, *self.held_out).compile()

    def train(self, epochs: int, shuffle: bool) -> float:
        """Train, an epoch a call."""
        rows = self.case.rows
        start = time.perf_counter()
        for _ in range(epochs):
            order = self.random.permutation(rows) if shuffle else np.arange(rows)
            self.state, losses = self.run_epoch(self.state, self.x, self.y, order.astype(np.int32))
        losses.block_until_ready()
        return time.perf_counter() - start

    def loss(self) -> float:
        """Evaluate all rows."""
        return float(self.mean_loss(self.state[0], self.x, self.y))

    def evaluate(self) -> float:
        """Evaluate all rows held out in one call."""
        loss, accuracy = self.metrics(self.state[0], *self.held_out)
        float(loss)
        return float(accuracy)
