"""Activations and their delta kernels: a scalar function and its slope each, one loop for all.

The loops are made once from the scalar functions: plain, with the bias added in the same pass, and
the delta with or without the bias gradient. Selects are written as conditional expressions on
values, which vectorise; a branch would be mispredicted at every other element.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba import carray, njit

from gpubp.kernels.numba import rows
from gpubp.kernels.numba.compiled import FLAGS, jit_as
from gpubp.kernels.numba.elementary import (
    exp,
    exp_negative,
    expm1_negative,
    minus,
    normal,
    within,
)
from gpubp.kernels.numba.elementary import sigmoid as _logistic
from gpubp.kernels.numba.elementary import softplus as _softened
from gpubp.kernels.numba.elementary import tanh as _hyperbolic
from gpubp.kernels.numba.intrinsics import like
from gpubp.kernels.numba.rows import FEW, LINES, ROWS
from gpubp.kernels.numba.tile import scratch

Function = Callable[..., Any]


def _forward(f: Function) -> Function:
    """Return the kernel a = f(z)."""

    @jit_as(f"{f.__name__}_forward")
    def kernel(z: Any, a: Any, *scalars: float) -> None:
        for i in range(z.size):
            a[i] = f(z[i], *scalars)

    return kernel


def _with_bias(f: Function, keep_z: bool) -> Function:
    """Return the kernel a = f(z + b); with ``keep_z`` it also leaves z + b in z."""

    @jit_as(f"{f.__name__}_with_bias")
    def kernel(z: Any, b: Any, a: Any, *scalars: float) -> None:
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                biased = z[i, j] + b[j]
                if keep_z:
                    z[i, j] = biased
                a[i, j] = f(biased, *scalars)

    return kernel


def _delta(slope: Function) -> Function:
    """Return the kernel dz = da · slope(saved)."""

    @jit_as(f"{slope.__name__}_delta")
    def kernel(da: Any, saved: Any, dz: Any, *scalars: float) -> None:
        for i in range(da.size):
            dz[i] = da[i] * slope(saved[i], *scalars)

    return kernel


def _delta_bias_grad(slope: Function) -> Function:
    """Return the kernel dz = da · slope(saved), db = the sum of dz over rows."""

    @jit_as(f"{slope.__name__}_delta_bias_grad")
    def kernel(da: Any, saved: Any, dz: Any, db: Any, *scalars: float) -> None:
        for j in range(db.size):
            db[j] = 0
        for i in range(da.shape[0]):
            for j in range(da.shape[1]):
                d = da[i, j] * slope(saved[i, j], *scalars)
                dz[i, j] = d
                db[j] += d

    return kernel


_scalar = njit(forceinline=True, **FLAGS)  # else longer ones stay calls, and loops scalar

# From where on gelu, in both forms, and silu are 0 or z and their slopes 0 or 1, in float64 too:
# a factor that may be infinite ends there, because 0 times infinity is none of these.
_FAR, _FAR_OF_EXP = 40.0, 800.0


@_scalar
def _sigmoid(z: Any) -> Any:
    return _logistic(z)


@_scalar
def _sigmoid_slope(a: Any) -> Any:
    return a * (like(1.0, a) - a)


@_scalar
def _tanh(z: Any) -> Any:
    return _hyperbolic(z)


@_scalar
def _tanh_slope(a: Any) -> Any:
    return like(1.0, a) - a * a


@_scalar
def _relu(z: Any) -> Any:
    return like(0.0, z) if z < like(0.0, z) else z  # NaN stays: training must see it


@_scalar
def _relu_slope(a: Any) -> Any:
    zero = like(0.0, a)
    return like(1.0, a) if a > zero else zero if a <= zero else a  # NaN stays


@_scalar
def _leaky_relu(z: Any, alpha: float) -> Any:
    return z if z > like(0.0, z) else like(alpha, z) * z


@_scalar
def _leaky_relu_slope(z: Any, alpha: float) -> Any:
    zero = like(0.0, z)
    return like(1.0, z) if z > zero else like(alpha, z) if z <= zero else z  # NaN stays


@_scalar
def _elu(z: Any, alpha: float) -> Any:
    low = like(alpha, z) * expm1_negative(like(0.0, z) if z > like(0.0, z) else z)
    return z if z > like(0.0, z) else low


@_scalar
def _elu_slope(z: Any, alpha: float) -> Any:
    low = like(alpha, z) * exp_negative(like(0.0, z) if z > like(0.0, z) else z)
    return like(1.0, z) if z > like(0.0, z) else low


@_scalar
def _gelu(z: Any) -> Any:
    cdf, _ = normal(z)
    return within(z, -_FAR, math.inf) * cdf


@_scalar
def _gelu_slope(z: Any) -> Any:
    cdf, bell = normal(z)
    near = within(z, -_FAR, _FAR)
    return cdf + near * (like(0.3989422804014327, z) * bell)  # 1 / sqrt(2 pi)


@_scalar
def _gelu_tanh_sigmoid(z: Any) -> Any:
    """(1 + tanh(y)) / 2 = sigmoid(2 y), y = sqrt(2 / pi) (z + 0.044715 z³), z not far out."""
    return _logistic(like(1.5957691216057308, z) * (z + like(0.044715, z) * z * z * z))


@_scalar
def _gelu_tanh(z: Any) -> Any:
    return within(z, -_FAR, math.inf) * _gelu_tanh_sigmoid(within(z, -_FAR, _FAR))


@_scalar
def _gelu_tanh_slope(z: Any) -> Any:
    z = within(z, -_FAR, _FAR)
    s = _gelu_tanh_sigmoid(z)
    inner = like(1.5957691216057308, z) * (like(1.0, z) + like(0.134145, z) * z * z)
    return s + z * s * (like(1.0, z) - s) * inner


@_scalar
def _silu(z: Any) -> Any:
    return within(z, -_FAR_OF_EXP, math.inf) * _logistic(z)


@_scalar
def _silu_slope(z: Any) -> Any:
    s, near = _logistic(z), within(z, -_FAR_OF_EXP, _FAR_OF_EXP)
    return s * (like(1.0, z) + near * (like(1.0, z) - s))


@_scalar
def _softplus(z: Any) -> Any:
    return _softened(z)


@_scalar
def _softplus_slope(a: Any) -> Any:
    return -expm1_negative(-a)


@_scalar
def _exponential(z: Any) -> Any:
    return exp(z)


@_scalar
def _exponential_slope(a: Any) -> Any:
    return a


def _one_by_one(f: Function, slope: Function, keep_z: bool = False) -> tuple[Function, ...]:
    """Return the four kernels of an elementwise activation."""
    return _forward(f), _with_bias(f, keep_z), _delta(slope), _delta_bias_grad(slope)


sigmoid, bias_sigmoid, sigmoid_delta, sigmoid_delta_bias_grad = _one_by_one(
    _sigmoid, _sigmoid_slope
)
tanh, bias_tanh, tanh_delta, tanh_delta_bias_grad = _one_by_one(_tanh, _tanh_slope)
relu, bias_relu, relu_delta, relu_delta_bias_grad = _one_by_one(_relu, _relu_slope)
leaky_relu, bias_leaky_relu, leaky_relu_delta, leaky_relu_delta_bias_grad = _one_by_one(
    _leaky_relu, _leaky_relu_slope, keep_z=True
)
elu, bias_elu, elu_delta, elu_delta_bias_grad = _one_by_one(_elu, _elu_slope, keep_z=True)
gelu, bias_gelu, gelu_delta, gelu_delta_bias_grad = _one_by_one(_gelu, _gelu_slope, keep_z=True)
gelu_tanh, bias_gelu_tanh, gelu_tanh_delta, gelu_tanh_delta_bias_grad = _one_by_one(
    _gelu_tanh, _gelu_tanh_slope, keep_z=True
)
silu, bias_silu, silu_delta, silu_delta_bias_grad = _one_by_one(_silu, _silu_slope, keep_z=True)
softplus, bias_softplus, softplus_delta, softplus_delta_bias_grad = _one_by_one(
    _softplus, _softplus_slope
)

exponential, bias_exponential, exponential_delta, exponential_delta_bias_grad = _one_by_one(
    _exponential, _exponential_slope
)


@njit(**FLAGS)
def identity(z: Any, a: Any) -> None:
    """a = z."""
    for i in range(z.size):
        a[i] = z[i]


@njit(**FLAGS)
def identity_delta(da: Any, dz: Any) -> None:
    """dz = da."""
    for i in range(da.size):
        dz[i] = da[i]


@njit(**FLAGS)
def softmax(z: Any, a: Any) -> None:
    """a_k = exp(z_k - max z) / sum_j exp(z_j - max z), row by row."""
    lines = carray(scratch(rows.wide(a), LINES), (FEW, ROWS))
    totals = carray(scratch(rows.wide(a), ROWS), (ROWS,))
    rests = carray(scratch(rows.wide(a), ROWS), (ROWS,))
    sums = carray(scratch(rows.wide(a), ROWS), (ROWS,))
    for start in range(0, z.shape[0], ROWS):
        end = min(start + ROWS, z.shape[0])
        part = a[start:end]
        rows.shift(z[start:end], part, lines, totals, sums)
        rows.exponentials(part, lines, totals, rests)
        for r in range(ROWS):
            totals[r], sums[r] = like(1.0, totals[r]) / totals[r], 0
        rows.scale(part, lines, totals, sums)


@njit(**FLAGS)
def softmax_delta(da: Any, a: Any, dz: Any) -> None:
    """dz_k = a_k (da_k - sum_j a_j da_j), row by row."""
    for i in range(da.shape[0]):
        inner = like(0.0, da[i, 0])
        for k in range(da.shape[1]):
            inner += a[i, k] * da[i, k]
        for k in range(da.shape[1]):
            dz[i, k] = a[i, k] * (da[i, k] - inner)


@njit(**FLAGS)
def log_softmax(z: Any, a: Any) -> None:
    """a_k = z_k - max z - log sum_j exp(z_j - max z), row by row."""
    for i in range(z.shape[0]):
        top = z[i].max()
        total, rest = like(0.0, top), like(0.0, top)
        for k in range(z.shape[1]):
            e = exp_negative(z[i, k] - top)
            total += e
            rest += rows.below_one(e)
        # A total below 2 is 1 and its rest, which has the digits that the total has not.
        shift = like(math.log1p(rest) if total < 2 else math.log(total), top)
        for k in range(z.shape[1]):
            a[i, k] = minus(minus(z[i, k], top), shift)


@njit(**FLAGS)
def log_softmax_delta(da: Any, a: Any, dz: Any) -> None:
    """dz_k = da_k - exp(a_k) sum_j da_j, row by row."""
    for i in range(da.shape[0]):
        total = like(0.0, da[i, 0])
        for k in range(da.shape[1]):
            total += da[i, k]
        for k in range(da.shape[1]):
            dz[i, k] = da[i, k] - exp(a[i, k]) * total
