"""Losses: what the network is trained to make small, and how its outputs are read as predictions.

Every loss is a sum over outputs and a mean over the rows of the minibatch, each row times its
sample weight: L = (1 / B) Σ_i w_i Σ_k l(z_ik, t_ik). The weights are not normalised. The formulas
of l, with their sources, stand in :mod:`gpubp.kernels.spec`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from array_api_compat import array_namespace

from gpubp.data import check
from gpubp.errors import InputError
from gpubp.plan.build import CORRECT, LOSS, SQUARED_ERRORS, Builder
from gpubp.plan.ir import Buffer, Number
from gpubp.registry import Registry
from gpubp.settings import Settings, number


@dataclass(frozen=True)
class Loss(Settings):
    """A loss on the network's outputs.

    ``link`` is the activation that turns an output into a prediction: softmax and sigmoid make
    probabilities of logits, exponential a rate of its logarithm.
    """

    kernel: ClassVar[str]
    link: ClassVar[str] = "identity"
    classifies: ClassVar[bool] = False
    target_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    def scalars(self) -> dict[str, Number]:
        """Return the kernel's scalars."""
        return {}

    def check_targets(self, y: Any, *, rows: int, outputs: int, fitting: bool) -> Any:
        """Return targets as this loss takes them: (N, K) values.

        Args:
            y: (N,) or (N, K).
            rows: N.
            outputs: K, of the network.
            fitting: whether they are to be learned from, and so must not be all alike.

        Raises:
            InputError: they can't be this loss's targets.
        """
        values = check.values(y, rows=rows, columns=outputs)
        low, high = self.target_range
        xp = array_namespace(values)
        least, most = float(xp.min(values)), float(xp.max(values))
        if least < low or most > high:
            raise InputError(
                f"y has values from {least:g} to {most:g}, but targets of loss "
                f"{LOSSES.name_of(self)!r} lie between {low:g} and {high:g}"
            )
        if fitting and self.classifies and least == most:
            raise InputError(f"y is {least:g} everywhere: a classifier needs two classes at least")
        return values

    def kernel_for(self, y: Buffer) -> str:
        """Return the kernel for targets of this kind."""
        return self.kernel

    def lower(
        self, build: Builder, z: Buffer, y: Buffer, weights: Buffer | None, scale: float
    ) -> Buffer:
        """Emit loss and delta in one pass; return the gradient at ``z``."""
        dz = build.temporary(f"d{z.name}", z.shape[1])
        kernel = self.kernel_for(y)
        over = ("mean" if build.training else "sum") + (" of w ·" if weights else "")
        formula = f"L += {over} {kernel}({z.name}, {y.name}); {dz.name} = ∂L/∂{z.name}"
        operands = (z, y, weights, None, LOSS, dz)
        build.emit(kernel, *operands, formula=formula, **self.scalars(), scale=scale)
        return dz

    def lower_metric(self, build: Builder, z: Buffer, y: Buffer) -> None:
        """Emit the sum of squared errors of the predictions."""
        prediction = self.lower_link(build, z)
        formula = f"errors += Σ ({prediction.name} - {y.name})²"
        build.emit("sum_of_squared_errors", prediction, y, SQUARED_ERRORS, formula=formula)

    def lower_link(self, build: Builder, z: Buffer) -> Buffer:
        """Emit predictions from outputs; return them."""
        if self.link == "identity":
            return z
        prediction = build.temporary("prediction", z.shape[1], z.dtype)
        formula = f"prediction = {self.link}({z.name})"
        build.emit(self.link, z, prediction, formula=formula)
        return prediction


LOSSES: Registry[Loss] = Registry("loss")


@LOSSES.add("squared_error")
@dataclass(frozen=True)
class SquaredError(Loss):
    """l = ½ (z - t)², or (z - t)² with ``half=False``."""

    half: bool = True
    kernel: ClassVar[str] = "squared_error"

    def lower(
        self, build: Builder, z: Buffer, y: Buffer, weights: Buffer | None, scale: float
    ) -> Buffer:
        """Emit loss and delta."""
        return super().lower(build, z, y, weights, scale if self.half else 2 * scale)


@LOSSES.add("absolute_error")
@dataclass(frozen=True)
class AbsoluteError(Loss):
    """l = |z - t|."""

    kernel: ClassVar[str] = "absolute_error"


@LOSSES.add("huber")
@dataclass(frozen=True)
class Huber(Loss):
    """l = ½ r² for |r| <= threshold, else threshold (|r| - ½ threshold), r = z - t.

    Raises:
        InputError: ``threshold`` is not positive.
    """

    threshold: float = number(1.0, above=0)
    kernel: ClassVar[str] = "huber"

    def scalars(self) -> dict[str, Number]:
        """Return the threshold."""
        return {"threshold": self.threshold}


@LOSSES.add("quantile")
@dataclass(frozen=True)
class Quantile(Loss):
    """l = q (t - z) for t > z, else (1 - q) (z - t): its minimum is the q-quantile.

    Raises:
        InputError: ``q`` is not between 0 and 1.
    """

    q: float = number(0.5, above=0, below=1)
    kernel: ClassVar[str] = "quantile"

    def scalars(self) -> dict[str, Number]:
        """Return q."""
        return {"q": self.q}


@LOSSES.add("poisson")
@dataclass(frozen=True)
class Poisson(Loss):
    """l = exp(z) - t z, t a count and z the logarithm of its rate."""

    kernel: ClassVar[str] = "poisson"
    link: ClassVar[str] = "exponential"
    target_range: ClassVar[tuple[float, float]] = (0.0, math.inf)


@LOSSES.add("sigmoid_cross_entropy")
@dataclass(frozen=True)
class SigmoidCrossEntropy(Loss):
    """l = log(1 + exp(z)) - t z, z logits and t in [0, 1]; outputs are independent."""

    kernel: ClassVar[str] = "sigmoid_cross_entropy"
    link: ClassVar[str] = "sigmoid"
    classifies: ClassVar[bool] = True
    target_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def lower_metric(self, build: Builder, z: Buffer, y: Buffer) -> None:
        """Emit the number of rows with every output on the right side."""
        formula = f"correct += rows with ({z.name} > 0) = ({y.name} > ½)"
        build.emit("count_correct_binary", z, y, CORRECT, formula=formula)


@LOSSES.add("softmax_cross_entropy")
@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """l = -Σ_k q_k log softmax(z)_k, q the label's one-hot row or a given distribution, smoothed.

    Args:
        smoothing: the part of q that is spread evenly over the classes.

    Raises:
        InputError: ``smoothing`` is not in [0, 1).
    """

    smoothing: float = number(0.0, least=0, below=1)
    kernel: ClassVar[str] = "softmax_cross_entropy"
    link: ClassVar[str] = "softmax"
    classifies: ClassVar[bool] = True
    target_range: ClassVar[tuple[float, float]] = (0.0, math.inf)

    def scalars(self) -> dict[str, Number]:
        """Return the smoothing."""
        return {"smoothing": self.smoothing}

    def check_targets(self, y: Any, *, rows: int, outputs: int, fitting: bool) -> Any:
        """Return class ids (N,) as int64, or distributions (N, K)."""
        if len(getattr(y, "shape", ())) == 2:
            found = super().check_targets(y, rows=rows, outputs=outputs, fitting=fitting)
            xp = array_namespace(found)
            classes = xp.nonzero(xp.sum(found, axis=0) > 0)[0] if fitting else range(2)
            if len(classes) < 2:
                raise InputError(
                    f"y holds the single class {int(classes[0])}, but a classifier needs two at "
                    "least"
                )
            return found
        if fitting:
            check.labels(y, rows=rows)  # also refuses a single class
        return check.labels(y, rows=rows, classes=outputs)

    def kernel_for(self, y: Buffer) -> str:
        """Return the kernel for class ids or for distributions."""
        return self.kernel if y.dtype == "int64" else "softmax_cross_entropy_dense"

    def lower_metric(self, build: Builder, z: Buffer, y: Buffer) -> None:
        """Emit the number of rows whose largest output is the right one."""
        kernel = "count_correct" if y.dtype == "int64" else "count_correct_dense"
        formula = f"correct += rows with argmax {z.name} = {y.name}"
        build.emit(kernel, z, y, CORRECT, formula=formula)
