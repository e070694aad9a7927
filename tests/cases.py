"""Calls for the conformance suite: operands for any kernel, made from its contract.

A table says what an operand must look like where random normal numbers will not do: labels within
the classes, probabilities, a saved activation that is one. Outputs start as garbage.
"""

from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
import oracles
import pytest

from gpubp.kernels.contract import FLOATS, Kernel, mask_bytes
from gpubp.kernels.spec import ACTIVATIONS, KERNELS

# Lengths of the axes. A data set (N, S) has the two rows more that row = first = 1 skip.
SIZES = {
    "empty": {"B": 0, "I": 3, "O": 4, "K": 3, "N": 2, "S": 2, "P": 0, "T": 1, "...": (0, 3)},
    "one": {"B": 1, "I": 1, "O": 1, "K": 1, "N": 3, "S": 3, "P": 1, "T": 1, "...": (1,)},
    "three": {"B": 3, "I": 17, "O": 33, "K": 3, "N": 9, "S": 5, "P": 17, "T": 3, "...": (3, 1, 17)},
    "odd": {"B": 33, "I": 3, "O": 17, "K": 17, "N": 40, "S": 35, "P": 561, "T": 2, "...": (33, 17)},
}

SCALARS = {
    "alpha": 0.3,
    "beta1": 0.8,
    "beta2": 0.95,
    "clip_norm": 0.9,
    "clip_value": 1.5,
    "decaying": 5,
    "eps": 1e-3,
    "first": 1,
    "l1": 0.1,
    "l2": 0.2,
    "limit": 0.7,
    "momentum": 0.7,
    "q": 0.3,
    "rate": 0.4,
    "rho": 0.7,
    "rows": 5,
    "scale": 0.37,
    "smoothing": 0.2,
    "steps": 2,
    "stream": 7,
    "threshold": 0.6,
    "weight_decay": 0.1,
}


@dataclass
class Call:
    """Operands and scalars for one call; ``hidden`` is what only the oracle needs."""

    kernel: Kernel
    operands: list
    scalars: dict
    hidden: dict = field(default_factory=dict)

    @property
    def named(self):
        return {o.name: x for o, x in zip(self.kernel.operands, self.operands, strict=True)}

    @property
    def reads(self):
        return {o.name: self.named[o.name] for o in self.kernel.operands if not o.written}

    @property
    def written(self):
        given = self.named
        return {o.name: given[o.name] for o in self.kernel.outputs if given[o.name] is not None}

    def mapped(self, function):
        """Return the same call on function(declared operand, array) for each array."""
        pairs = zip(self.kernel.operands, self.operands, strict=True)
        return replace(self, operands=[x if x is None else function(o, x) for o, x in pairs])

    def copy(self):
        return self.mapped(lambda _, array: array.copy())

    def in_float64(self):
        """Return the call with its working dtype float64, for the reference."""
        return self.mapped(
            lambda declared, array: array.astype("float64" if declared.floating else array.dtype)
        )


@dataclass(frozen=True)
class Variant:
    """A kernel with a choice of its optional operands and of its flags."""

    kernel: Kernel
    absent: tuple = ()
    flags: tuple = ()

    def __str__(self):
        return "-".join([self.kernel.name, *(f"no_{name}" for name in self.absent), *self.flags])

    def call(self, dtype, size, **more):
        flags = {s.name: s.name in self.flags for s in self.kernel.scalars if s.kind == "bool"}
        return make(self.kernel, dtype, size, absent=self.absent, **flags, **more)

    @property
    def dtypes(self):
        """The working dtypes; where no operand has one, the name of either will do."""
        floating = any(operand.floating for operand in self.kernel.operands)
        return ("float32", "float64") if floating else ("float32",)


def _variants(kernel):
    optional = [operand.name for operand in kernel.operands if operand.optional]
    flags = [scalar.name for scalar in kernel.scalars if scalar.kind == "bool"]
    for absent in product(*([(), (name,)] for name in optional)):
        for raised in product(*([(), (name,)] for name in flags)):
            yield Variant(kernel, sum(absent, ()), sum(raised, ()))


VARIANTS = [variant for kernel in KERNELS.values() for variant in _variants(kernel)]


def _masses(rng, shape):
    """Return rows of positive numbers, of a total that is not 1 where a mistake could hide."""
    return rng.random(shape) + 0.01


VALUES = {
    "bits": lambda rng, shape: rng.integers(2**32, size=shape, dtype=np.uint32),
    "loss": lambda rng, shape: rng.random(shape),
    "lr": lambda rng, shape: np.full(shape, 0.013),
    "rates": lambda rng, shape: rng.random(shape),
    "row": lambda rng, shape: np.full(shape, 1),
    "seed": lambda rng, shape: np.full(shape, -0x123456789ABCDEF),
    "squares": lambda rng, shape: rng.random(shape),
    "start": lambda rng, shape: np.full(shape, 2**33),
    "step": lambda rng, shape: np.full(shape, 2**33 + 1),
    "v": lambda rng, shape: rng.random(shape),
    "weights": lambda rng, shape: rng.uniform(0.5, 2.0, shape),
    **dict.fromkeys(
        [f"{name}.step" for name in ("adam", "adamw", "adam_update", "adamw_update")],
        lambda rng, shape: np.full(shape, 3),
    ),
    "poisson.t": lambda rng, shape: rng.poisson(2.0, shape),
    "sigmoid_cross_entropy.t": lambda rng, shape: rng.random(shape),
    "softmax_cross_entropy_dense.t": _masses,
    "count_correct_binary.t": lambda rng, shape: rng.integers(2, size=shape),
}


def make(kernel, dtype, size, *, absent=(), wide=(), seed=0, source="float64", **scalars):
    """Return a call; optional operands named in ``absent`` are None.

    Of the operands that may be as wide as bfloat16 or wider, those named in ``wide`` are wider.
    """
    rng = np.random.default_rng(seed)
    axes = SIZES[size] | {"M": mask_bytes(SIZES[size]["O"])}
    values = {s.name: SCALARS[s.name] for s in kernel.scalars if s.name in SCALARS} | scalars
    if "squares" in absent:
        values["clip_norm"] = 0.0  # there is no norm without them
    if "decaying" in values:
        values["decaying"] = min(values["decaying"], axes["P"])
    call = Call(kernel, [], values)
    for declared in kernel.operands:
        if declared.name in absent:
            call.operands.append(None)
            continue
        choices = declared.dtypes(dtype)
        fixed = source if declared.dtype == "real" else choices[-(declared.name in wide)]
        flipped = values.get(declared.transpose, False)
        call.operands.append(
            _array(call, declared, _shape(declared, axes, flipped), axes, rng, fixed)
        )
    return call


def sprinkled(declared, array):
    """Return a floating operand with NaN and infinities here and there."""
    if not declared.floating or declared.mode == "overwrite":
        return array
    rng = np.random.default_rng(list(declared.name.encode()))
    poison = rng.choice([np.nan, np.inf, -np.inf], array.shape)
    return np.where(rng.random(array.shape) < 0.1, poison, array).astype(array.dtype)


def _shape(declared, axes, flipped):
    shape = ()
    for axis in declared.axes:
        length = int(axis) if axis.isdigit() else axes[axis]
        shape += length if isinstance(length, tuple) else (length,)
    return (*shape[:-2], shape[-1], shape[-2]) if flipped else shape


def _array(call, declared, shape, axes, rng, dtype):
    kernel, name = call.kernel, declared.name
    floating = dtype in FLOATS
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    if declared.mode == "overwrite" or (call.scalars.get("accumulate") is False and name == "c"):
        return np.full(shape, np.nan if floating else 99, dtype)
    special = VALUES.get(f"{kernel.name}.{name}") or VALUES.get(name)
    if special:
        return special(rng, shape).astype(dtype)
    activation = kernel.name.partition("_delta")[0].removesuffix("_dropout")
    if name == "a" and activation in ACTIVATIONS:
        f = oracles.ACTIVATIONS[activation]
        scalars = {s.name: call.scalars[s.name] for s in KERNELS[activation].scalars}
        call.hidden["z"] = 2 * rng.standard_normal(shape)
        return f(call.hidden["z"], **scalars).astype(dtype)
    if dtype == "bool":
        return rng.random(shape) < 0.7
    if floating:
        return (2 * rng.standard_normal(shape)).astype(dtype)
    places = {"labels": axes["K"], "permutation": axes["N"], "mask": 256}
    high = places.get(name, 100)
    return rng.integers(high, size=shape).astype(dtype)
