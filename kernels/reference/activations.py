"""Activations, each with its delta kernel below it and the fused passes made of them.

``_with_bias`` and its like make the fused kernels from the plain ones, so that a formula stands
here once.
"""

from __future__ import annotations

import math
from typing import Any

from array_api_compat import array_namespace

from gpubp.kernels.reference import elementary
from gpubp.kernels.reference.elementary import FAR, FAR_OF_EXP, clip, normal_cdf, normal_density
from gpubp.kernels.reference.made import Reference, named, operands_of
from gpubp.kernels.reference.random import dropout, dropout_delta

_TANH_SCALE = 2.0 * math.sqrt(2.0 / math.pi)
_TANH_CUBIC = 0.044715


def _with_bias(forward: Reference, *, keep_z: bool = False) -> Reference:
    """Return the kernel a = f(z + b); with ``keep_z`` it leaves z + b in z for the delta kernel."""
    name = forward.__name__

    def kernel(z: Any, b: Any, a: Any, **scalars: float) -> None:
        biased = z + b
        if keep_z:
            z[...] = biased
        forward(biased, a, **scalars)

    return named(kernel, f"bias_{name}", "z b a", f"a = {name}(z + b).", forward)


def _with_dropout(biased: Reference) -> Reference:
    """Return the kernel that also writes y, the dropout of a."""

    def kernel(
        z: Any, b: Any, seed: Any, step: Any, a: Any, y: Any,
        *, rate: float, stream: int, first: int = 0, **scalars: float,
    ) -> None:  # fmt: skip
        biased(z, b, a, **scalars)
        dropout(a, seed, step, y, rate=rate, stream=stream, first=first)

    name = f"{biased.__name__}_dropout"
    doc = f"{biased.__name__}, and y = dropout(a)."
    return named(kernel, name, "z b seed step a y", doc, biased, dropout)


def _with_bias_grad(delta: Reference) -> Reference:
    """Return the delta kernel that also writes db, the sum of dz over rows."""
    _, saved, _ = operands_of(delta)

    def kernel(da: Any, saved: Any, dz: Any, db: Any, **scalars: float) -> None:
        delta(da, saved, dz, **scalars)
        db[...] = array_namespace(dz).sum(dz, axis=0, dtype=db.dtype)

    name = f"{delta.__name__}_bias_grad"
    doc = f"{delta.__name__}, and db = sum of dz."
    return named(kernel, name, f"da {saved} dz db", doc, delta)


def _with_dropout_delta(delta: Reference) -> Reference:
    """Return the kernel that takes the gradient at the output of dropout, not of the activation."""
    _, saved, *_ = operands_of(delta)

    def kernel(
        dy: Any, saved: Any, seed: Any, step: Any, dz: Any, db: Any,
        *, rate: float, stream: int, first: int = 0, **scalars: float,
    ) -> None:  # fmt: skip
        dropout_delta(dy, seed, step, dz, rate=rate, stream=stream, first=first)
        delta(dz, saved, dz, db, **scalars)

    name = delta.__name__.replace("_delta", "_dropout_delta")
    doc = f"{delta.__name__} of da = dropout_delta(dy)."
    return named(kernel, name, f"dy {saved} seed step dz db", doc, delta, dropout_delta)


def identity(z: Any, a: Any) -> None:
    """a = z."""
    a[...] = z


def identity_delta(da: Any, dz: Any) -> None:
    """dz = da."""
    dz[...] = da


def sigmoid(z: Any, a: Any) -> None:
    """a = 1 / (1 + exp(-z))."""
    a[...] = elementary.sigmoid(z)


def sigmoid_delta(da: Any, a: Any, dz: Any) -> None:
    """dz = da a (1 - a)."""
    dz[...] = da * (a * (1.0 - a))


bias_sigmoid = _with_bias(sigmoid)
bias_sigmoid_dropout = _with_dropout(bias_sigmoid)
sigmoid_delta_bias_grad = _with_bias_grad(sigmoid_delta)
sigmoid_dropout_delta_bias_grad = _with_dropout_delta(sigmoid_delta_bias_grad)


def tanh(z: Any, a: Any) -> None:
    """a = tanh(z)."""
    a[...] = array_namespace(z).tanh(z)


def tanh_delta(da: Any, a: Any, dz: Any) -> None:
    """dz = da (1 - a²)."""
    dz[...] = da * (1.0 - a * a)


bias_tanh = _with_bias(tanh)
bias_tanh_dropout = _with_dropout(bias_tanh)
tanh_delta_bias_grad = _with_bias_grad(tanh_delta)
tanh_dropout_delta_bias_grad = _with_dropout_delta(tanh_delta_bias_grad)


def relu(z: Any, a: Any) -> None:
    """a = max(z, 0), NaN where z is NaN."""
    a[...] = array_namespace(z).maximum(z, 0.0)


def relu_delta(da: Any, a: Any, dz: Any) -> None:
    """dz = da where a > 0, else 0: the subgradient at 0 is 0, that of NaN is NaN."""
    dz[...] = da * array_namespace(a).sign(array_namespace(a).maximum(a, 0.0))


bias_relu = _with_bias(relu)
bias_relu_dropout = _with_dropout(bias_relu)
relu_delta_bias_grad = _with_bias_grad(relu_delta)
relu_dropout_delta_bias_grad = _with_dropout_delta(relu_delta_bias_grad)


def leaky_relu(z: Any, a: Any, *, alpha: float = 0.01) -> None:
    """a = z if z > 0 else alpha z."""
    a[...] = array_namespace(z).where(z > 0.0, z, alpha * z)


def leaky_relu_delta(da: Any, z: Any, dz: Any, *, alpha: float = 0.01) -> None:
    """dz = da if z > 0 else alpha da."""
    xp = array_namespace(z)
    dz[...] = da * xp.where(z > 0.0, 1.0, xp.where(z <= 0.0, alpha, z))


bias_leaky_relu = _with_bias(leaky_relu, keep_z=True)
bias_leaky_relu_dropout = _with_dropout(bias_leaky_relu)
leaky_relu_delta_bias_grad = _with_bias_grad(leaky_relu_delta)
leaky_relu_dropout_delta_bias_grad = _with_dropout_delta(leaky_relu_delta_bias_grad)


def elu(z: Any, a: Any, *, alpha: float = 1.0) -> None:
    """a = z if z > 0 else alpha (exp(z) - 1)."""
    xp = array_namespace(z)
    a[...] = xp.where(z > 0.0, z, alpha * xp.expm1(xp.minimum(z, 0.0)))


def elu_delta(da: Any, z: Any, dz: Any, *, alpha: float = 1.0) -> None:
    """dz = da if z > 0 else da alpha exp(z)."""
    xp = array_namespace(z)
    dz[...] = da * xp.where(z > 0.0, 1.0, alpha * xp.exp(xp.minimum(z, 0.0)))


bias_elu = _with_bias(elu, keep_z=True)
bias_elu_dropout = _with_dropout(bias_elu)
elu_delta_bias_grad = _with_bias_grad(elu_delta)
elu_dropout_delta_bias_grad = _with_dropout_delta(elu_delta_bias_grad)


def gelu(z: Any, a: Any) -> None:
    """a = z Φ(z)."""
    a[...] = array_namespace(z).maximum(z, -FAR) * normal_cdf(z)


def gelu_delta(da: Any, z: Any, dz: Any) -> None:
    """dz = da (Φ(z) + z φ(z))."""
    z = clip(z, FAR)
    dz[...] = da * (normal_cdf(z) + z * normal_density(z))


bias_gelu = _with_bias(gelu, keep_z=True)
bias_gelu_dropout = _with_dropout(bias_gelu)
gelu_delta_bias_grad = _with_bias_grad(gelu_delta)
gelu_dropout_delta_bias_grad = _with_dropout_delta(gelu_delta_bias_grad)


def _tanh_gate(z: Any) -> Any:
    """(1 + t) / 2 = sigmoid(2 y), t = tanh(y), which keeps its digits where t is near -1."""
    return elementary.sigmoid(_TANH_SCALE * (z + _TANH_CUBIC * z * z * z))


def gelu_tanh(z: Any, a: Any) -> None:
    """a = z (1 + t) / 2, t = tanh(√(2/π) (z + 0.044715 z³))."""
    a[...] = array_namespace(z).maximum(z, -FAR) * _tanh_gate(clip(z, FAR))


def gelu_tanh_delta(da: Any, z: Any, dz: Any) -> None:
    """dz = da ((1 + t) / 2 + z (1 - t²) √(2/π) (1 + 3·0.044715 z²) / 2)."""
    z = clip(z, FAR)
    s = _tanh_gate(z)
    inner = _TANH_SCALE * (1.0 + 3.0 * _TANH_CUBIC * z * z)
    dz[...] = da * (s + z * s * (1.0 - s) * inner)


bias_gelu_tanh = _with_bias(gelu_tanh, keep_z=True)
bias_gelu_tanh_dropout = _with_dropout(bias_gelu_tanh)
gelu_tanh_delta_bias_grad = _with_bias_grad(gelu_tanh_delta)
gelu_tanh_dropout_delta_bias_grad = _with_dropout_delta(gelu_tanh_delta_bias_grad)


def silu(z: Any, a: Any) -> None:
    """a = z s, s = 1 / (1 + exp(-z))."""
    a[...] = array_namespace(z).maximum(z, -FAR_OF_EXP) * elementary.sigmoid(z)


def silu_delta(da: Any, z: Any, dz: Any) -> None:
    """dz = da s (1 + z (1 - s))."""
    s = elementary.sigmoid(z)
    dz[...] = da * (s * (1.0 + clip(z, FAR_OF_EXP) * (1.0 - s)))


bias_silu = _with_bias(silu, keep_z=True)
bias_silu_dropout = _with_dropout(bias_silu)
silu_delta_bias_grad = _with_bias_grad(silu_delta)
silu_dropout_delta_bias_grad = _with_dropout_delta(silu_delta_bias_grad)


def softplus(z: Any, a: Any) -> None:
    """a = log(1 + exp(z))."""
    a[...] = elementary.softplus(z)


def softplus_delta(da: Any, a: Any, dz: Any) -> None:
    """dz = da (1 - exp(-a))."""
    dz[...] = da * -array_namespace(a).expm1(-a)


bias_softplus = _with_bias(softplus)
bias_softplus_dropout = _with_dropout(bias_softplus)
softplus_delta_bias_grad = _with_bias_grad(softplus_delta)
softplus_dropout_delta_bias_grad = _with_dropout_delta(softplus_delta_bias_grad)


def exponential(z: Any, a: Any) -> None:
    """a = exp(z)."""
    a[...] = array_namespace(z).exp(z)


def exponential_delta(da: Any, a: Any, dz: Any) -> None:
    """dz = da a."""
    dz[...] = da * a


bias_exponential = _with_bias(exponential)
bias_exponential_dropout = _with_dropout(bias_exponential)
exponential_delta_bias_grad = _with_bias_grad(exponential_delta)
exponential_dropout_delta_bias_grad = _with_dropout_delta(exponential_delta_bias_grad)


def softmax(z: Any, a: Any) -> None:
    """a_k = exp(z_k - m) / sum_j exp(z_j - m), m = max_j z_j."""
    xp = array_namespace(z)
    e = xp.exp(z - xp.max(z, axis=1, keepdims=True))
    a[...] = e / xp.sum(e, axis=1, keepdims=True)


def softmax_delta(da: Any, a: Any, dz: Any) -> None:
    """dz_k = a_k (da_k - sum_j a_j da_j)."""
    dz[...] = a * (da - array_namespace(a).sum(a * da, axis=1, keepdims=True))


def log_softmax(z: Any, a: Any) -> None:
    """a_k = z_k - m - log sum_j exp(z_j - m), m = max_j z_j."""
    a[...] = elementary.log_softmax(z)


def log_softmax_delta(da: Any, a: Any, dz: Any) -> None:
    """dz_k = da_k - exp(a_k) sum_j da_j."""
    xp = array_namespace(a)
    dz[...] = da - xp.exp(a) * xp.sum(da, axis=1, keepdims=True)
