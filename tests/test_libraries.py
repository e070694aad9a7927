"""Arrays of other libraries give the bits of NumPy's, on every backend and at every door."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

import array_api_strict
import numpy as np
import pytest

import gpubp
from gpubp.backends.numba import NumbaBackend
from gpubp.backends.numpy import NumpyBackend
from gpubp.errors import PlanError

BACKENDS = ("numpy", "numba")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 5)).astype(np.float32)
IDS, VALUES, WEIGHTS = RNG.integers(0, 3, 90), RNG.normal(size=90), RNG.random(90)


def trained(backend: str, X=X, y=IDS, w=None, loss="softmax_cross_entropy"):
    outputs = 3 if loss.startswith("softmax") else 1
    network = gpubp.Sequential(gpubp.Dense(8, "tanh"), gpubp.Dense(outputs))
    trainer = gpubp.Trainer(network, loss, device="cpu", backend=backend, seed=1)
    trainer.fit(X, y, epochs=2, sample_weight=w)
    return trainer


# One process, because JAX starts threads, and its setting holds for a process.
WITH_JAX = """
import sys
import numpy as np
import jax
jax.config.update("jax_enable_x64", sys.argv[1] == "x64")
from jax import numpy as jnp
import gpubp
from gpubp.callbacks import Callback

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 5)).astype(np.float32)
ids, values, weights = rng.integers(0, 3, 90), rng.normal(size=90), rng.random(90)
values = values.astype(np.float32).astype(np.float64)
weights = weights.astype(np.float32).astype(np.float64)

def trainer(backend, loss):
    outputs = 3 if loss.startswith("softmax") else 1
    layers = gpubp.Dense(8, "tanh"), gpubp.Dense(outputs)
    return gpubp.Trainer(gpubp.Sequential(*layers), loss, device="cpu", backend=backend, seed=1)

def same(backend, loss, ours, theirs):
    made = [trainer(backend, loss) for _ in range(2)]
    for one, (X, y, w) in zip(made, (ours, theirs)):
        one.fit(X, y, epochs=2, sample_weight=w, validation_data=(X, y))
    np.testing.assert_array_equal(made[0].parameters(), made[1].parameters())
    assert made[0].evaluate(*ours) == made[1].evaluate(*theirs)
    assert made[0].history.column("val_loss")[-1] == made[1].history.column("val_loss")[-1]
    np.testing.assert_array_equal(made[0].predict(ours[0]), made[1].predict(theirs[0]))
    made[1].trace(*theirs[:2])
    made[1].validate(*theirs[:2])

for backend in ("numpy", "numba"):
    for dtype in (np.int8, np.int32, np.int64, np.uint8):
        labels = jnp.asarray(ids.astype(dtype))
        same(backend, "softmax_cross_entropy", (X, ids, None), (X, labels, None))
    two = ids % 2
    same(backend, "softmax_cross_entropy", (X, two, None), (X, jnp.asarray(two == 1), None))
    theirs = jnp.asarray(X), ids, jnp.asarray(weights)
    same(backend, "softmax_cross_entropy", (X, ids, weights), theirs)
    same(backend, "squared_error", (X, values, None), (jnp.asarray(X), jnp.asarray(values), None))
    same(backend, "squared_error", (X, ids, None), (X, jnp.asarray(ids), None))
checks = gpubp.check_gradients(
    trainer("numba", "softmax_cross_entropy").network, "softmax_cross_entropy",
    X[:10], jnp.asarray(ids[:10]), backend="numba",
)
assert checks.passed
"""


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
@pytest.mark.parametrize("width", ["x32", "x64"])
def test_jax(width: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITH_JAX, width],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_array_api_strict(backend: str) -> None:
    strict = array_api_strict.asarray
    expected = trained(backend, w=WEIGHTS).parameters()
    found = trained(backend, strict(X), strict(IDS), strict(WEIGHTS)).parameters()
    np.testing.assert_array_equal(found, expected)
    found = trained(backend, strict(X), strict(VALUES), loss="squared_error").parameters()
    np.testing.assert_array_equal(
        found, trained(backend, y=VALUES, loss="squared_error").parameters()
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "bool"])
def test_torch(backend: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    ids = IDS if dtype != "bool" else IDS % 2
    network_input, labels = torch.from_numpy(X), torch.from_numpy(ids).to(getattr(torch, dtype))
    found = trained(backend, network_input, labels, torch.from_numpy(WEIGHTS)).parameters()
    np.testing.assert_array_equal(found, trained(backend, y=ids, w=WEIGHTS).parameters())


@pytest.mark.parametrize("kind", ["int32", "int8", "bool", "float64"])
@pytest.mark.parametrize("backend", [NumpyBackend(), NumbaBackend(1)], ids=BACKENDS)
def test_compiled_code_gets_what_the_plan_says(backend, kind: str) -> None:
    """The last door: an array of another dtype, shape or layout is never read by its address."""
    trainer = trained(backend.name)
    engine = trainer._trained()
    executable = engine._executables[next(k for k in engine._executables if k[0] == "training")]
    order = np.zeros(90, np.int64)
    good = {"X": X, "y": IDS, "permutation": order, "rates": np.zeros(3)}
    executable.bind(engine.vectors, good)
    wrong = [
        {"y": IDS.astype(kind)},
        {"y": np.repeat(IDS, 2)[::2]},
        {"X": X[:, :4].copy()},
        {"X": np.asfortranarray(X)},
        {"X": X.astype(np.float64)},
        {"permutation": order.astype(np.int32)},
        {"permutation": order[:, None]},
    ]
    for change in wrong:
        with pytest.raises(PlanError, match=next(iter(change))):
            executable.bind(engine.vectors, good | change)
