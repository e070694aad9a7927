"""Optimizers: how parameters change along the gradient.

Each is a frozen description; its arithmetic is the kernel of the same name in
:mod:`gpubp.kernels.spec`, one call for the whole flat parameter vector. ``state`` names the vectors
of the parameters' length that it keeps from step to step, all 0 at the start.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from gpubp.kernels.spec import kernel as contract
from gpubp.plan.build import LR, STEP, Builder, ParameterLayout
from gpubp.plan.ir import GRADS, PARAMS
from gpubp.registry import Registry
from gpubp.settings import Settings, number


@dataclass(frozen=True)
class Optimizer(Settings):
    """An optimizer with learning rate ``lr`` (η), which the schedule multiplies.

    Raises:
        InputError: a setting is out of its range.
    """

    lr: float = number(0.01, above=0)
    kernel: ClassVar[str]
    state: ClassVar[tuple[str, ...]] = ()
    counts_steps: ClassVar[bool] = False  # its kernel takes the step number
    formula: ClassVar[str]

    def lower(self, build: Builder, layout: ParameterLayout) -> None:
        """Emit the update of every parameter in one call."""
        self.emit(build, self.kernel, 0, layout.size)

    def emit(self, build: Builder, kernel: str, start: int, stop: int) -> None:
        """Emit the update of a part of the flat vector."""
        if start == stop:
            return

        step = [STEP] if self.counts_steps else []
        grads, params, *state = (
            build.vector(region, start, stop) for region in (GRADS, PARAMS, *self.state)
        )
        wanted = {scalar.name for scalar in contract(kernel).scalars}
        scalars = {
            field.name: getattr(self, field.name) for field in fields(self) if field.name in wanted
        }
        build.emit(kernel, grads, LR, *step, *state, params, formula=self.formula, **scalars)


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer")


@OPTIMIZERS.add("sgd")
@dataclass(frozen=True)
class SGD(Optimizer):
    """w -= η g (Robbins & Monro 1951)."""

    kernel: ClassVar[str] = "sgd"
    formula: ClassVar[str] = "w -= η g"


@OPTIMIZERS.add("momentum")
@dataclass(frozen=True)
class Momentum(Optimizer):
    """u = μ u - η g; w += u (Polyak 1964)."""

    momentum: float = number(0.9, least=0, below=1)
    kernel: ClassVar[str] = "momentum"
    state: ClassVar[tuple[str, ...]] = ("velocity",)
    formula: ClassVar[str] = "u = μ u - η g; w += u"


@OPTIMIZERS.add("nesterov")
@dataclass(frozen=True)
class Nesterov(Optimizer):
    """u = μ u - η g; w += μ u - η g (Nesterov 1983, in the form of Sutskever et al. 2013)."""

    momentum: float = number(0.9, least=0, below=1)
    kernel: ClassVar[str] = "nesterov"
    state: ClassVar[tuple[str, ...]] = ("velocity",)
    formula: ClassVar[str] = "u = μ u - η g; w += μ u - η g"


@OPTIMIZERS.add("adam")
@dataclass(frozen=True)
class Adam(Optimizer):
    """m, v: running means of g and g²; w -= η m̂ / (√v̂ + ε) (Kingma & Ba 2015, algorithm 1)."""

    lr: float = number(1e-3, above=0)
    beta1: float = number(0.9, least=0, below=1)
    beta2: float = number(0.999, least=0, below=1)
    eps: float = number(1e-8, above=0)
    kernel: ClassVar[str] = "adam"
    state: ClassVar[tuple[str, ...]] = ("m", "v")
    counts_steps: ClassVar[bool] = True
    formula: ClassVar[str] = "m = β1 m + (1-β1) g; v = β2 v + (1-β2) g²; w -= η m̂ / (√v̂ + ε)"


@OPTIMIZERS.add("adamw")
@dataclass(frozen=True)
class AdamW(Adam):
    """w -= η λ w on weights that decay, then Adam (Loshchilov & Hutter 2019)."""

    weight_decay: float = number(0.01, least=0)
    kernel: ClassVar[str] = "adamw"

    def lower(self, build: Builder, layout: ParameterLayout) -> None:
        """Emit two calls: with decay for the weights, without it for biases."""
        self.emit(build, "adamw", 0, layout.decaying)
        self.emit(build, "adam", layout.decaying, layout.size)


@OPTIMIZERS.add("rmsprop")
@dataclass(frozen=True)
class RMSProp(Optimizer):
    """v = ρ v + (1-ρ) g²; w -= η g / (√v + ε) (Tieleman & Hinton 2012)."""

    lr: float = number(1e-3, above=0)
    rho: float = number(0.9, least=0, below=1)
    eps: float = number(1e-8, above=0)
    kernel: ClassVar[str] = "rmsprop"
    state: ClassVar[tuple[str, ...]] = ("v",)
    formula: ClassVar[str] = "v = ρ v + (1-ρ) g²; w -= η g / (√v + ε)"


@OPTIMIZERS.add("adagrad")
@dataclass(frozen=True)
class AdaGrad(Optimizer):
    """v += g²; w -= η g / (√v + ε) (Duchi, Hazan & Singer 2011)."""

    eps: float = number(1e-10, above=0)
    kernel: ClassVar[str] = "adagrad"
    state: ClassVar[tuple[str, ...]] = ("v",)
    formula: ClassVar[str] = "v += g²; w -= η g / (√v + ε)"
