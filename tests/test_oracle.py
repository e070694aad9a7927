"""N steps of whole networks against implementations that share no code with gpubp, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import data, make, split_all

import gpubp
from gpubp.kernels.spec import ACTIVATIONS
from gpubp.losses import LOSSES
from gpubp.optimizers import OPTIMIZERS

STEPS, BATCH = 30, 8
TOLERANCE = {"rtol": 1e-8, "atol": 1e-11}


@pytest.fixture(autouse=True)
def _split(monkeypatch: pytest.MonkeyPatch) -> None:
    split_all(monkeypatch)


def _trained(way: str, layers: list[Any], loss: Any, optimizer: Any, **settings: Any) -> Any:
    """Return initial and final parameters of STEPS steps, and the data in the order of use."""
    name = loss if isinstance(loss, str) else LOSSES.name_of(loss)
    X, y = data(name, rows=STEPS * BATCH, dtype=np.float64)
    trainer = make(way, *layers, loss=loss, optimizer=optimizer, precision="fp64", **settings)
    trainer.initialize(X.shape[1])
    before = trainer.named_parameters()
    trainer.fit(X, y, epochs=1, batch_size=BATCH, shuffle=False)
    assert trainer.step == STEPS
    return before, trainer.named_parameters(), X, y


def _compare(after: dict[str, Any], expected: dict[str, Any]) -> None:
    assert after.keys() == expected.keys()
    for name, value in after.items():
        np.testing.assert_allclose(value, expected[name], err_msg=name, **TOLERANCE)


@pytest.mark.parametrize("way", ["numpy", "numba-1"])
def test_tanh_softmax_adam_by_hand(way: str) -> None:
    layers = [gpubp.Dense(7, "tanh"), gpubp.Dense(3)]
    w, after, X, y = _trained(way, layers, "softmax_cross_entropy", "adam", l2=0.01)
    m = {name: np.zeros_like(value) for name, value in w.items()}
    v = {name: np.zeros_like(value) for name, value in w.items()}
    for step in range(STEPS):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        x, labels = X[rows], y[rows]
        a = np.tanh(x @ w["W1"] + w["b1"])
        z = a @ w["W2"] + w["b2"]
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        dz2 = (p - np.eye(3)[labels]) / BATCH
        dz1 = (dz2 @ w["W2"].T) * (1 - a**2)
        g = {"W1": x.T @ dz1, "b1": dz1.sum(0), "W2": a.T @ dz2, "b2": dz2.sum(0)}
        for name in w:
            g[name] += 0.01 * w[name] if name.startswith("W") else 0
            m[name] = 0.9 * m[name] + 0.1 * g[name]
            v[name] = 0.999 * v[name] + 0.001 * g[name] ** 2
            unbiased_m = m[name] / (1 - 0.9 ** (step + 1))
            unbiased_v = v[name] / (1 - 0.999 ** (step + 1))
            w[name] = w[name] - 1e-3 * unbiased_m / (np.sqrt(unbiased_v) + 1e-8)
    _compare(after, w)


@pytest.mark.parametrize("way", ["numpy", "numba-1"])
def test_relu_squared_error_momentum_and_clipping_by_hand(way: str) -> None:
    layers = [gpubp.Dense(7, "relu"), gpubp.Dense(3)]
    optimizer = OPTIMIZERS.get("momentum", lr=0.02, momentum=0.8)
    w, after, X, t = _trained(way, layers, "squared_error", optimizer, clip_norm=1.5)
    u = {name: np.zeros_like(value) for name, value in w.items()}
    clipped = 0
    for step in range(STEPS):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        z1 = X[rows] @ w["W1"] + w["b1"]
        a = np.maximum(z1, 0)
        dz2 = (a @ w["W2"] + w["b2"] - t[rows]) / BATCH
        dz1 = (dz2 @ w["W2"].T) * (z1 > 0)
        g = {"W1": X[rows].T @ dz1, "b1": dz1.sum(0), "W2": a.T @ dz2, "b2": dz2.sum(0)}
        norm = np.sqrt(sum((value**2).sum() for value in g.values()))
        clipped += norm > 1.5
        for name in w:
            u[name] = 0.8 * u[name] - 0.02 * g[name] * min(1, 1.5 / norm)
            w[name] = w[name] + u[name]
    assert 0 < clipped < STEPS, "the example should clip some steps and leave others"
    _compare(after, w)


def _torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is an oracle here, not a dependency")


def _torch_activations(torch: Any) -> dict[str, Callable[[Any], Any]]:
    f = torch.nn.functional
    return {
        "identity": lambda z: z,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "leaky_relu": f.leaky_relu,
        "elu": f.elu,
        "gelu": f.gelu,
        "gelu_tanh": lambda z: f.gelu(z, approximate="tanh"),
        "silu": f.silu,
        "softplus": f.softplus,
        "exponential": torch.exp,
        "softmax": lambda z: torch.softmax(z, 1),
        "log_softmax": lambda z: torch.log_softmax(z, 1),
    }


def _torch_losses(torch: Any) -> dict[str, Callable[[Any, Any], Any]]:
    """Return the losses: sums over outputs, means over rows."""
    f = torch.nn.functional

    def mean(values: Any) -> Any:
        return values.sum() / BATCH

    def pinball(z: Any, t: Any) -> Any:
        return torch.maximum(0.7 * (t - z), 0.3 * (z - t))

    return {
        "squared_error": lambda z, t: mean(f.mse_loss(z, t, reduction="none")) / 2,
        "absolute_error": lambda z, t: mean(f.l1_loss(z, t, reduction="none")),
        "huber": lambda z, t: mean(f.huber_loss(z, t, reduction="none", delta=0.6)),
        "quantile": lambda z, t: mean(pinball(z, t)),
        "poisson": lambda z, t: mean(f.poisson_nll_loss(z, t, reduction="none")),
        "sigmoid_cross_entropy": lambda z, t: mean(
            f.binary_cross_entropy_with_logits(z, t, reduction="none")
        ),
        "softmax_cross_entropy": lambda z, t: f.cross_entropy(z, t, label_smoothing=0.1),
    }


OPTIONS: dict[str, dict[str, float]] = {
    "huber": {"threshold": 0.6},
    "quantile": {"q": 0.7},
    "softmax_cross_entropy": {"smoothing": 0.1},
}


def _torch_steps(
    torch: Any, w: dict[str, Any], X: Any, y: Any, activation: str, loss: str, make_optimizer: Any
) -> dict[str, Any]:
    """Return the parameters after STEPS steps of PyTorch."""
    w = {name: torch.tensor(value, requires_grad=True) for name, value in w.items()}
    f, loss_of = _torch_activations(torch)[activation], _torch_losses(torch)[loss]
    optimizer = make_optimizer(w)
    X, y = torch.tensor(X), torch.tensor(y)
    for step in range(STEPS):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        z = f(X[rows] @ w["W1"] + w["b1"]) @ w["W2"] + w["b2"]
        optimizer.zero_grad()
        loss_of(z, y[rows]).backward()
        optimizer.step()
    return {name: value.detach().numpy() for name, value in w.items()}


@pytest.mark.parametrize("way", ["numpy", "numba-2"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_against_torch(way: str, activation: str) -> None:
    torch = _torch()
    layers = [gpubp.Dense(7, activation), gpubp.Dense(3)]
    before, after, X, y = _trained(way, layers, "squared_error", OPTIMIZERS.get("sgd", lr=0.02))
    expected = _torch_steps(
        torch, before, X, y, activation, "squared_error",
        lambda w: torch.optim.SGD(w.values(), lr=0.02),
    )  # fmt: skip
    _compare(after, expected)


@pytest.mark.parametrize("way", ["numpy", "numba-2"])
@pytest.mark.parametrize("loss", list(LOSSES))
def test_every_loss_against_torch(way: str, loss: str) -> None:
    torch = _torch()
    layers = [gpubp.Dense(7, "tanh"), gpubp.Dense(3)]
    chosen = LOSSES.get(loss, **OPTIONS.get(loss, {}))
    before, after, X, y = _trained(way, layers, chosen, OPTIMIZERS.get("sgd", lr=0.02))
    expected = _torch_steps(
        torch, before, X, y, "tanh", loss, lambda w: torch.optim.SGD(w.values(), lr=0.02)
    )
    _compare(after, expected)


def _torch_optimizer(torch: Any, name: str, w: dict[str, Any]) -> Any:
    o = torch.optim
    weights, biases = ([w[n] for n in w if n.startswith(kind)] for kind in "Wb")
    groups = [{"params": weights}, {"params": biases, "weight_decay": 0.0}]
    return {
        "sgd": lambda: o.SGD(w.values(), lr=0.02),
        "momentum": lambda: o.SGD(w.values(), lr=0.02, momentum=0.9),
        "nesterov": lambda: o.SGD(w.values(), lr=0.02, momentum=0.9, nesterov=True),
        "adam": lambda: o.Adam(w.values(), lr=0.02),
        "adamw": lambda: o.AdamW(groups, lr=0.02, weight_decay=0.3),
        "rmsprop": lambda: o.RMSprop(w.values(), lr=0.02, alpha=0.9),
        "adagrad": lambda: o.Adagrad(w.values(), lr=0.02, eps=1e-10),
    }[name]()


@pytest.mark.parametrize("way", ["numpy", "numba-2"])
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_against_torch(way: str, name: str) -> None:
    torch = _torch()
    layers = [gpubp.Dense(7, "tanh"), gpubp.Dense(3)]
    settings = {"weight_decay": 0.3} if name == "adamw" else {}
    optimizer = OPTIMIZERS.get(name, lr=0.02, **settings)
    before, after, X, y = _trained(way, layers, "squared_error", optimizer)
    expected = _torch_steps(
        torch, before, X, y, "tanh", "squared_error", lambda w: _torch_optimizer(torch, name, w)
    )
    _compare(after, expected)
