"""Activations and their delta kernels: a scalar function and its slope each, one loop for all.

The loops are made once from the scalar functions: plain, with the bias added in the same pass, and
the delta with or without the bias gradient. Selects are written as conditional expressions on
values, which vectorise; a branch would be mispredicted at every other element.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.extending import register_jitable

from gpubp.kernels.numba.compiled import FLAGS
from gpubp.kernels.numba.elementary import exp, normal_cdf, normal_density, sigmoid as _sigmoid
from gpubp.kernels.numba.elementary import softplus as _softplus, tanh as _tanh
from gpubp.kernels.numba.intrinsics import like

Function = Callable[..., Any]


def _forward(f: Function) -> Function:
    """Return the kernel a = f(z)."""
    f = register_jitable(f)

    @njit(**FLAGS)
    def kernel(z: Any, a: Any, *scalars: float) -> None:
        for i in range(z.size):
            a[i] = f(z[i], *scalars)

    return kernel


def _with_bias(f: Function, keep_z: bool) -> Function:
    """Return the kernel a = f(z + b); with ``keep_z`` it also leaves z + b in z."""
    f = register_jitable(f)

    @njit(**FLAGS)
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
    slope = register_jitable(slope)

    @njit(**FLAGS)
    def kernel(da: Any, saved: Any, dz: Any, *scalars: float) -> None:
        for i in range(da.size):
            dz[i] = da[i] * slope(saved[i], *scalars)

    return kernel


def _delta_bias_grad(slope: Function) -> Function:
    """Return the kernel dz = da · slope(saved), db = the sum of dz over rows."""
    slope = register_jitable(slope)

    @njit(**FLAGS)
    def kernel(da: Any, saved: Any, dz: Any, db: Any, *scalars: float) -> None:
        for j in range(db.size):
            db[j] = 0
        for i in range(da.shape[0]):
            for j in range(da.shape[1]):
                d = da[i, j] * slope(saved[i, j], *scalars)
                dz[i, j] = d
                db[j] += d

    return kernel


def _relu(z: Any) -> Any:
    return like(0.0, z) if z < like(0.0, z) else z  # NaN stays: training must see it


def _relu_slope(a: Any) -> Any:
    return like(1.0, a) if a > like(0.0, a) else like(0.0, a)


relu = _forward(_relu)
bias_relu = _with_bias(_relu, keep_z=False)
relu_delta = _delta(_relu_slope)
relu_delta_bias_grad = _delta_bias_grad(_relu_slope)
tanh = _forward(_tanh)
