"""Kernels against PyTorch and optax, where they are installed: derivatives and many steps."""

import numpy as np
import pytest
from runners import evaluate, every_backend

from gpubp.kernels.spec import KERNELS

RNG = np.random.default_rng(11)
Z, DA = RNG.standard_normal((2, 5, 4))
TARGETS = RNG.random((5, 4))
DISTRIBUTION = RNG.dirichlet(np.ones(4), 5)
LABELS = RNG.integers(4, size=5)
LR, STEPS = 0.05, 30
STATES = ("velocity", "m", "v")


def activations(torch):
    f = torch.nn.functional
    return {
        "identity": lambda z: z * 1,
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


def losses(torch):
    f = torch.nn.functional
    t, p, labels = (torch.tensor(x) for x in (TARGETS, DISTRIBUTION, LABELS))
    return {
        "squared_error": ({"t": TARGETS}, lambda z: f.mse_loss(z, t, reduction="sum") / 2),
        "absolute_error": ({"t": TARGETS}, lambda z: f.l1_loss(z, t, reduction="sum")),
        "huber": (
            {"t": TARGETS, "threshold": 0.4},
            lambda z: f.huber_loss(z, t, reduction="sum", delta=0.4),
        ),
        "quantile": (
            {"t": TARGETS, "q": 0.2},
            lambda z: torch.maximum(0.2 * (t - z), 0.8 * (z - t)).sum(),
        ),
        "poisson": ({"t": TARGETS}, lambda z: f.poisson_nll_loss(z, t, reduction="sum")),
        "sigmoid_cross_entropy": (
            {"t": TARGETS},
            lambda z: f.binary_cross_entropy_with_logits(z, t, reduction="sum"),
        ),
        "softmax_cross_entropy": (
            {"labels": LABELS, "smoothing": 0.1},
            lambda z: f.cross_entropy(z, labels, label_smoothing=0.1, reduction="sum"),
        ),
        "softmax_cross_entropy_dense": (
            {"t": DISTRIBUTION, "smoothing": 0.1},
            lambda z: f.cross_entropy(z, p, label_smoothing=0.1, reduction="sum"),
        ),
    }


@every_backend
@pytest.mark.parametrize(
    "name", [k.name for k in KERNELS.values() if f"{k.name}_delta" in KERNELS and "z" in k.index]
)
def test_activations_against_autograd(run, name):
    torch = pytest.importorskip("torch")
    z = torch.tensor(Z, requires_grad=True)
    value = activations(torch)[name](z)
    value.backward(torch.tensor(DA))
    a = evaluate(run, name, z=Z)["a"]
    operands = KERNELS[f"{name}_delta"].index
    saved = {key: x for key, x in (("z", Z), ("a", a)) if key in operands}
    np.testing.assert_allclose(a, value.detach().numpy(), rtol=1e-12)
    dz = evaluate(run, f"{name}_delta", da=DA, **saved)["dz"]
    np.testing.assert_allclose(dz, z.grad.numpy(), rtol=1e-11, atol=1e-14)


@every_backend
@pytest.mark.parametrize("name", [k.name for k in KERNELS.values() if k.family == "loss"])
def test_losses_against_autograd(run, name):
    torch = pytest.importorskip("torch")
    z = torch.tensor(Z, requires_grad=True)
    operands, f = losses(torch)[name]
    value = f(z)
    value.backward()
    out = evaluate(run, name, z=Z, **operands)
    np.testing.assert_allclose(out["loss"], [value.item()], rtol=1e-12)
    np.testing.assert_allclose(out["dz"], z.grad.numpy(), rtol=1e-11, atol=1e-14)


def torch_optimizers(torch):
    o = torch.optim
    return {
        "sgd": lambda p: o.SGD(p, LR),
        "momentum": lambda p: o.SGD(p, LR, momentum=0.9),
        # PyTorch's velocity is not yet times the rate: the same steps while the rate is constant.
        "nesterov": lambda p: o.SGD(p, LR, momentum=0.9, nesterov=True),
        "adam": lambda p: o.Adam(p, LR),
        "adamw": lambda p: o.AdamW(p, LR, weight_decay=0.01),
        "rmsprop": lambda p: o.RMSprop(p, LR, alpha=0.9, eps=1e-8),
        "adagrad": lambda p: o.Adagrad(p, LR, eps=1e-10),
    }


def optax_optimizers(optax):
    return {
        "sgd": optax.sgd(LR),
        "momentum": optax.sgd(LR, momentum=0.9),
        "nesterov": optax.sgd(LR, momentum=0.9, nesterov=True),
        "adam": optax.adam(LR),
        "adamw": optax.adamw(LR, weight_decay=0.01),
        "rmsprop": optax.rmsprop(LR, decay=0.9, eps=1e-8, eps_in_sqrt=False),
        # Here eps stands under the root: hence the looser bound of the comparison.
        "adagrad": optax.adagrad(LR, initial_accumulator_value=0.0, eps=1e-10),
    }


OPTIMIZERS = [
    name.removesuffix("_update") + suffix
    for name in KERNELS
    if name.endswith("_update")
    for suffix in ("", "_update")
]


def slope(params):
    """A gradient that changes along the way, for any array library."""
    return params**3 - params * 0.5 + 0.1


def trained(run, name):
    params = np.linspace(-1, 1.3, 12)
    state = {o.name: np.zeros(12) for o in KERNELS[name].outputs if o.name in STATES}
    decay = {"decaying": 12} if name == "adamw_update" else {}
    for step in range(STEPS):
        clock = {"step": np.array([step])} if "step" in KERNELS[name].index else {}
        lr = np.array([LR])
        evaluate(run, name, grads=slope(params), lr=lr, params=params, **state, **clock, **decay)
    return params


@every_backend
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_many_steps_against_torch(run, name):
    torch = pytest.importorskip("torch")
    params = torch.linspace(-1, 1.3, 12, dtype=torch.float64)
    optimizer = torch_optimizers(torch)[name.removesuffix("_update")]([params])
    for _ in range(STEPS):
        params.grad = slope(params)
        optimizer.step()
    np.testing.assert_allclose(trained(run, name), params.numpy(), rtol=1e-10, atol=1e-13)


@every_backend
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_many_steps_against_optax(run, name):
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    with jax.enable_x64(True):
        optimizer = optax_optimizers(optax)[name.removesuffix("_update")]
        params = jax.numpy.linspace(-1, 1.3, 12, dtype="float64")
        state = optimizer.init(params)
        for _ in range(STEPS):
            change, state = optimizer.update(slope(params), state, params)
            params = optax.apply_updates(params, change)
        np.testing.assert_allclose(trained(run, name), np.asarray(params), rtol=1e-8)
