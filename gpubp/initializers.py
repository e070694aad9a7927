"""Initial weights: closed table of the published ways to draw them.

Everything is drawn on the host, in float64, from Philox4x32-10 at step 0 of the given stream: a
seed gives the same weights on every device, and in float32 the same ones rounded. A weight matrix
W has shape (I, O), I its fan-in and O its fan-out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubp.errors import InputError, unknown_name
from gpubp.kernels.blas_threads import limited, loaded
from gpubp.kernels.reference.random import random_bits
from gpubp.kernels.spec import ACTIVATIONS
from gpubp.registry import Registry
from gpubp.settings import Settings, number

Weights = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Initializer(Settings):
    """Base of all initializers."""

    def draw(self, shape: Shape, seed: int, stream: int) -> Weights:
        """Return initial values of ``shape`` as float64.

        Raises:
            InputError: the formula needs fans, and ``shape`` is not that of a matrix.
        """
        raise NotImplementedError


INITIALIZERS: Registry[Initializer] = Registry("initializer")


def uniform(shape: Shape, seed: int, stream: int) -> Weights:
    """Return numbers in the open interval (0, 1): odd multiples of 2^-53, two words to each."""
    bits = np.empty(2 * math.prod(shape), np.uint32)
    random_bits(np.array([seed], np.int64), np.zeros(1, np.int64), bits, stream=stream)
    high, low = bits.reshape(-1, 2).astype(np.uint64).T
    odd = 2 * (high << 20 | low >> 12) + 1  # of 53 bits, so that no rounding leads to 0 or 1
    return odd.astype(np.float64).reshape(shape) * 2.0**-53


def normal(shape: Shape, seed: int, stream: int) -> Weights:
    """Return standard normal numbers, by Box & Muller 1958, both of each pair used."""
    count = math.prod(shape)
    u, v = uniform((2, (count + 1) // 2), seed, stream)
    radius, angle = np.sqrt(-2.0 * np.log(u)), 2.0 * np.pi * v
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:count].reshape(shape)


def _spread(shape: Shape, limit: float, seed: int, stream: int) -> Weights:
    """Return numbers uniform in (-limit, limit), of variance limit² / 3."""
    return limit * (2.0 * uniform(shape, seed, stream) - 1.0)


def _fans(shape: Shape) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(
            f"fan-in and fan-out need a matrix of shape (I, O) with I, O >= 1, got shape {shape}; "
            "use zeros, constant, normal or uniform for other shapes"
        )
    return shape[0], shape[1]


@INITIALIZERS.add("glorot_uniform")
@dataclass(frozen=True)
class GlorotUniform(Initializer):
    """W ~ U(-a, a), a = √(6 / (I + O)).

    Glorot & Bengio 2010, Understanding the difficulty of training deep feedforward neural
    networks, eq. 16.
    """

    def draw(self, shape: Shape, seed: int, stream: int) -> Weights:  # noqa: D102
        return _spread(shape, math.sqrt(6.0 / sum(_fans(shape))), seed, stream)


@INITIALIZERS.add("glorot_normal")
@dataclass(frozen=True)
class GlorotNormal(Initializer):
    """W ~ N(0, σ²), σ² = 2 / (I + O), not truncated: Glorot & Bengio 2010, eq. 12."""

    def draw(self, shape: Shape, seed: int, stream: int) -> Weights:  # noqa: D102
        return math.sqrt(2.0 / sum(_fans(shape))) * normal(shape, seed, stream)


@INITIALIZERS.add("he_uniform")
@dataclass(frozen=True)
class HeUniform(Initializer):
    """W ~ U(-a, a), a = √(6 / I), the variance of he_normal."""

    def draw(self, shape: Shape, seed: int, stream: int) -> Weights:  # noqa: D102
        return _spread(shape, math.sqrt(6.0 / _fans(shape)[0]), seed, stream)


@INITIALIZERS.add("he_normal")
@dataclass(frozen=True)
class HeNormal(Initializer):
    """W ~ N(0, σ²), σ² = 2 / I, not truncated.

    He et al. 2015, Delving deep into rectifiers, eq. 10.
    """

    def draw(self, shape: Shape, seed: int, stream: int) -> Weights:  # noqa: D102
        return math.sqrt(2.0 / _fans(shape)[0]) * normal(shape, seed, stream)


@INITIALIZERS.add("lecun_uniform")
@dataclass(frozen=True)
class LecunUniform(Initializer):
    """W ~ U(-a, a), a = √(3 / I), the variance of lecun_normal."""

    def draw(self, shape: Shape, seed: int, stream: int) -> Weights:  # noqa: D102
        return _spread(shape, math.sqrt(3.0 / _fans(shape)[0]), seed, stream)


@INITIALIZERS.add("lecun_normal")
@dataclass(frozen=True)
class LecunNormal(Initializer):
    """W ~ N(0, σ²), σ² = 1 / I, not truncated: LeCun et al. 1998, Efficient BackProp, eq. 16."""

    def draw(self, shape: Shape, seed: int, stream: int) -> Weights:  # noqa: D102
        return math.sqrt(1.0 / _fans(shape)[0]) * normal(shape, seed, stream)


@INITIALIZERS.add("orthogonal")
@dataclass(frozen=True)
class Orthogonal(Initializer):
    """W with orthonormal columns (rows, if I < O), times ``gain``.

    Saxe, McClelland & Ganguli 2014, Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks. The signs of R's diagonal are moved into Q, without which a QR
    factorisation is not uniform over the orthogonal matrices (Mezzadri 2007).
    """

    gain: float = number(1.0, above=0)

    def draw(self, shape: Shape, seed: int, stream: int) -> Weights:  # noqa: D102
        fans = _fans(shape)
        with limited(loaded(), 1):  # another number gives other last bits
            q, r = np.linalg.qr(normal((max(fans), min(fans)), seed, stream))
        q *= np.copysign(self.gain, np.diagonal(r))
        return q if q.shape == shape else np.ascontiguousarray(q.T)


@INITIALIZERS.add("zeros")
@dataclass(frozen=True)
class Zeros(Initializer):
    """All 0: for biases."""

    def draw(self, shape: Shape, seed: int, stream: int) -> Weights:  # noqa: D102
        return np.zeros(shape)


@INITIALIZERS.add("constant")
@dataclass(frozen=True)
class Constant(Initializer):
    """All ``value``."""

    value: float = number(0.0)

    def draw(self, shape: Shape, seed: int, stream: int) -> Weights:  # noqa: D102
        return np.full(shape, self.value)


@INITIALIZERS.add("normal")
@dataclass(frozen=True)
class Normal(Initializer):
    """W ~ N(0, std²)."""

    std: float = number(0.01, least=0)

    def draw(self, shape: Shape, seed: int, stream: int) -> Weights:  # noqa: D102
        return self.std * normal(shape, seed, stream)


@INITIALIZERS.add("uniform")
@dataclass(frozen=True)
class Uniform(Initializer):
    """W ~ U(low, high)."""

    low: float = number(-0.05)
    high: float = number(0.05)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise InputError(f"Uniform: low ({self.low:g}) must not exceed high ({self.high:g})")

    def draw(self, shape: Shape, seed: int, stream: int) -> Weights:  # noqa: D102
        return self.low + (self.high - self.low) * uniform(shape, seed, stream)


# Symmetric about 0 or linear there, which is what Glorot & Bengio assume; all other activations
# pass about half of their input on, as in He et al. (Clevert et al. 2016 also use theirs for elu).
_NEAR_LINEAR = ("identity", "sigmoid", "tanh", "softmax", "log_softmax")


def for_activation(name: str) -> str:
    """Return the name of the initializer that ``"auto"`` stands for in front of an activation.

    Raises:
        InputError: there is no such activation.
    """
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)
    return "glorot_uniform" if name in _NEAR_LINEAR else "he_uniform"
