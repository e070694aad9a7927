"""Every optimizer, as a table: it converges, keeps dtypes, and is one call for all parameters."""

import numpy as np
import pytest

from gpubp import Dense, Sequential, Trainer
from gpubp.kernels.spec import KERNELS
from gpubp.optimizers import OPTIMIZERS, Optimizer

RATES = {"sgd": 0.3, "momentum": 0.05, "nesterov": 0.05, "adagrad": 0.5}
every_optimizer = pytest.mark.parametrize("name", [*OPTIMIZERS])
both = pytest.mark.parametrize("backend", ["numpy", "numba"])


def made(name, **options):
    return OPTIMIZERS.get(name, **{"lr": RATES.get(name, 0.05)} | options)


def line(name, backend="numpy", precision="fp64", **options):
    """Return a trainer for a linear network and data that lie on a plane."""
    X = np.random.default_rng(0).normal(size=(64, 3))
    y = X @ [1.0, -2.0, 0.5] + 3.0
    trainer = Trainer(
        Sequential(Dense(1)), loss="squared_error", optimizer=made(name, **options),
        schedule="cosine", backend=backend, precision=precision,
    )  # fmt: skip
    return trainer, X, y


@every_optimizer
@both
def test_it_finds_a_plane(name, backend):
    options = {"weight_decay": 0.0} if name == "adamw" else {}
    trainer, X, y = line(name, backend, **options)
    trainer.fit(X, y, epochs=150, batch_size=16)
    assert trainer.evaluate(X, y)["rmse"] < 1e-2
    np.testing.assert_allclose(trainer.parameters(), [1, -2, 0.5, 3], atol=1e-2)


@every_optimizer
@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("fp64", "float64")])
def test_parameters_and_state_keep_their_dtype_and_length(name, precision, dtype):
    trainer, X, y = line(name, precision=precision)
    trainer.fit(X, y)
    for vector in ("params", "grads", *trainer.optimizer.state):
        values = trainer._engine.read(vector)
        assert (values.dtype, values.shape) == (dtype, (4,))
        assert values.any(), vector


@every_optimizer
def test_one_call_updates_all_parameters(name):
    """But for the decay that biases are spared."""
    trainer, X, y = line(name)
    trainer.fit(X, y)
    updates = [c for c in trainer.plan(16).update if KERNELS[c.kernel].family == "optimizer"]
    sizes = [call.operands[-1].size for call in updates]
    assert sizes == ([3, 1] if name == "adamw" else [4])
    assert [c.kernel for c in updates] == (["adamw", "adam"] if name == "adamw" else [name])


@every_optimizer
def test_every_option_reaches_the_kernel(name):
    """With a value of its own, read off the plan: an option forgotten would be the default."""
    default = OPTIMIZERS.get(name)
    options = {
        field: value * 0.5 for field, value in vars(default).items() if isinstance(value, float)
    }
    trainer, X, y = line(name, **{"lr": 0.01} | options)
    trainer.fit(X, y)
    call = next(c for c in trainer.plan(16).update if KERNELS[c.kernel].family == "optimizer")
    options.pop("lr")
    assert dict(call.scalars) == options


@every_optimizer
def test_a_gradient_of_0_at_the_start_moves_nothing(name):
    """Nor does it divide by 0. Decay aside, which needs no gradient."""
    options = {"weight_decay": 0.0} if name == "adamw" else {}
    trainer, X, _ = line(name, **options)
    trainer.initialize(3)
    before = trainer.parameters()
    trainer.fit(X, trainer.predict(X), epochs=2, batch_size=16)
    np.testing.assert_allclose(trainer.parameters(), before, atol=1e-12)


def test_decay_shrinks_weights_and_spares_biases():
    """A step on data without a gradient: w -= η λ w."""
    trainer = Trainer(
        Sequential(Dense(2)), loss="squared_error", backend="numpy", precision="fp64",
        optimizer=OPTIMIZERS.get("adamw", lr=0.1, weight_decay=0.5),
    )  # fmt: skip
    trainer.initialize(2)
    W, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([5.0, 6.0])
    trainer.set_named_parameters({"W1": W, "b1": b})
    trainer.fit(np.zeros((4, 2)), np.tile(b, (4, 1)), batch_size=4)
    np.testing.assert_allclose(trainer.named_parameters()["W1"], 0.95 * W)
    np.testing.assert_array_equal(trainer.named_parameters()["b1"], b)


@every_optimizer
def test_a_configuration_makes_the_optimizer_again(name):
    optimizer = made(name)
    assert OPTIMIZERS.from_config(OPTIMIZERS.config(optimizer)) == optimizer
    assert isinstance(optimizer, Optimizer)
    assert OPTIMIZERS.get(name).lr == {"adam": 1e-3, "adamw": 1e-3, "rmsprop": 1e-3}.get(name, 0.01)
