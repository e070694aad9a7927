"""Checks backpropagation against central differences of the loss, in float64, on any backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp import initializers, intake
from gpubp.engine import Engine
from gpubp.feed import Data
from gpubp.kernels.contract import size
from gpubp.losses import Loss
from gpubp.network import Sequential
from gpubp.plan.build import Parameter
from gpubp.plan.ir import GRADS, PARAMS
from gpubp.settings import Rule
from gpubp.streams import GRADIENT_CHECK
from gpubp.trainer import Trainer

Vector = NDArray[np.float64]

# The loss is a sum whose rounding errors a difference divides by epsilon: this many units in the
# last place of it are granted, relative to 1 for losses below.
_ROUNDINGS = 20
# An element is compared if a gradient that is off by so much would be found, and one of 0 if what
# could hide behind the rounding is so small beside the network's largest gradient.
_SEEN, _NEGLIGIBLE = 1e-2, 1e-6
_NUDGE = 0.1  # how far the parameters are moved from where they start, in standard deviations


@dataclass(frozen=True)
class ParameterReport:
    """The check of one parameter: how many elements were compared, and the worst of them.

    ``kinks`` counts the elements that were left out because the loss has a corner within epsilon
    of them, such as ReLU's at 0, and ``hidden`` those that agree as far as the rounding of the loss
    lets one see, which is not far enough to tell a right gradient from a wrong one.
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    kinks: int
    hidden: int
    error: float
    index: tuple[int, ...]
    backpropagated: float
    difference: float


@dataclass(frozen=True)
class GradientReport:
    """The check of every parameter; printed, it is a table.

    ``floor`` is the smallest gradient that can be told from 0: the rounding of the loss over ε.
    """

    parameters: tuple[ParameterReport, ...]
    tolerance: float
    loss: float
    floor: float
    backend: str

    @property
    def wrong(self) -> tuple[str, ...]:
        """The names of the parameters with an element that is off."""
        return tuple(p.name for p in self.parameters if p.error > self.tolerance)

    @property
    def inconclusive(self) -> tuple[str, ...]:
        """The names of the parameters of which nothing is known: no element could be compared."""
        return tuple(p.name for p in self.parameters if not p.checked and p.name not in self.wrong)

    @property
    def passed(self) -> bool:
        """Whether every parameter had an element to compare and none was off."""
        return not self.wrong and not self.inconclusive

    def __str__(self) -> str:
        header = (
            "parameter", "shape", "checked", "kinks", "hidden", "error", "worst at", "backprop",
            "difference",
        )  # fmt: skip
        rows = [header] + [
            (p.name, str(p.shape), str(p.checked), str(p.kinks), str(p.hidden), f"{p.error:.1e}",
             str(p.index), f"{p.backpropagated:.8g}", f"{p.difference:.8g}")
            for p in self.parameters
        ]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
        return "\n".join([*lines, f"{self._verdict()} {self._facts()}"])

    def _verdict(self) -> str:
        if self.passed:
            return f"passed: no error is above {self.tolerance:g}"
        said = []
        if self.wrong:
            said.append(f"FAILED: errors above {self.tolerance:g} in {', '.join(self.wrong)}")
        if self.inconclusive:
            why = "corners and the rounding of the loss left nothing to compare"
            remedy = "take other rows, or targets in units that make the loss smaller"
            said.append(f"inconclusive in {', '.join(self.inconclusive)}: {why}; {remedy}")
        return "; ".join(said)

    def _facts(self) -> str:
        return f"(loss {self.loss:.6g}, floor {self.floor:.1e}, backend {self.backend})"


def check_gradients(
    network: Sequential,
    loss: str | Loss,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    seed: int = 0,
    device: str = "auto",
    backend: str | None = None,
    samples: int = 20,
    epsilon: float = 1e-6,
    tolerance: float = 1e-5,
) -> GradientReport:
    """Compare the gradients of a training step with (L(w + ε) - L(w - ε)) / 2ε.

    The step takes all rows as one minibatch, so some ten rows are enough; dropout is on, with the
    masks of step 0. The parameters are the initial ones of ``seed``, moved a little at random, so
    that no bias is 0. The error of an element is |a - b| / max(|a|, |b|, r), with r as small as
    rounding allows. Elements at a corner of the loss are left out, and others taken for them; those
    whose gradient the rounding of the loss hides are counted, but prove nothing.

    Args:
        network: the layers.
        loss: a name of ``gpubp.losses.LOSSES`` or a loss.
        X: (N, I), as for :meth:`gpubp.Trainer.fit`.
        y: class ids or targets, as there.
        sample_weight: (N,) factors of the rows' losses.
        seed: of parameters, dropout masks and the choice of elements.
        device: as for :class:`gpubp.Trainer`.
        backend: as for :class:`gpubp.Trainer`.
        samples: how many elements of each parameter to compare; all if it has no more.
        epsilon: ε.
        tolerance: the largest error that passes.

    Returns:
        the report; ``report.passed`` says the result, ``print(report)`` shows it. Not passed and
        not wrong is ``inconclusive``.

    Raises:
        InputError: the data or an argument can't be used.
        DeviceError: the device or backend can't be had.
        NonFiniteError: the loss is not finite.
    """
    samples = Rule(least=1, whole=True).check("samples", samples)
    epsilon = Rule(above=0).check("epsilon", epsilon)
    tolerance = Rule(above=0).check("tolerance", tolerance)
    trainer = Trainer(
        network, loss, "sgd", device=device, backend=backend, precision="fp64", seed=seed
    )
    with trainer._backend.active():
        data = trainer._checked(X, y, sample_weight, fitting=True)
        engine = trainer._trained()
        data, _ = intake.placed(engine, data, None, data.size)
        objective = _objective(engine, data)
        point = _point(engine.read(PARAMS), seed)
        base = objective(point)
        gradients = engine.named(GRADS)
        largest = max(float(np.abs(gradient).max()) for gradient in gradients.values())
        probe = _Probe(objective, point, base, epsilon, tolerance, largest)
        offsets = network.layout(engine.features).offsets
        reports = tuple(
            _check(probe, parameter, offsets[parameter.name],
                   gradients[parameter.name].ravel(), samples,
                   initializers.uniform((size(parameter.shape),), seed, GRADIENT_CHECK + position))
            for position, parameter in enumerate(network.parameters(engine.features), start=1)
        )  # fmt: skip
    return GradientReport(reports, tolerance, base, probe.floor, trainer.backend_name)


def _objective(engine: Engine, data: Data) -> Callable[[Vector], float]:
    """Return the loss of training step 0 as a function of the parameters; they are not updated."""
    rates = engine.backend.zeros(1, "float64")  # of 0, so that the update changes nothing
    data = Data(data.x, data.y, data.weights, engine.orders(None, data.size, False)(0))

    def loss(parameters: Vector) -> float:
        engine.write(PARAMS, parameters)
        engine.restore_progress({"step": 0, "row": 0, "loss_of_rows": 0.0, "sums": []})
        engine.begin_epoch(0)
        return engine.train(data, rates, data.size, lambda steps, mean: None)

    return loss


def _point(start: Vector, seed: int) -> Vector:
    """Return where the gradients are checked."""
    return start + _NUDGE * initializers.normal(start.shape, seed, GRADIENT_CHECK)


@dataclass(frozen=True)
class _Probe:
    """Differences of the loss around a point; ``largest`` is the largest gradient there."""

    objective: Callable[[Vector], float]
    point: Vector
    base: float
    epsilon: float
    tolerance: float
    largest: float

    @property
    def floor(self) -> float:
        """The rounding error of a difference."""
        roundings = _ROUNDINGS * np.finfo(np.float64).eps
        return float(roundings * max(1.0, abs(self.base)) / self.epsilon)

    def compare(self, element: int, backpropagated: float) -> tuple[float, float, str]:
        """Return central difference, error, and "kink", "hidden" or "" for what can be compared.

        At a corner the one-sided differences differ, by twice the error if it lies off the
        point and by at least the error if it is the point; where the loss is smooth they differ
        by ε times its curvature only.
        """
        up, down = (self._moved(element, step) for step in (self.epsilon, -self.epsilon))
        difference = (up - down) / (2 * self.epsilon)
        gap = abs(backpropagated - difference)
        largest = max(abs(backpropagated), abs(difference))
        scale = max(largest, self.floor / self.tolerance)
        if gap > self.tolerance * scale:
            bend = abs(up - 2 * self.base + down) / self.epsilon
            return difference, gap / scale, "kink" if bend >= gap else ""
        return difference, gap / scale, "" if self._sees(largest) else "hidden"

    def _sees(self, gradient: float) -> bool:
        """Return whether an element of that size that agrees is known to be right by that."""
        if gradient > self.floor:
            return self.floor <= _SEEN * gradient
        return self.floor <= _NEGLIGIBLE * self.largest

    def _moved(self, element: int, step: float) -> float:
        moved = self.point.copy()
        moved[element] += step
        return self.objective(moved)


def _check(
    probe: _Probe, parameter: Parameter, offset: int, gradient: Vector, samples: int, keys: Vector
) -> ParameterReport:
    """Compare elements of one parameter, in the order of ``keys``, until ``samples`` are smooth."""
    counts = {"": 0, "kink": 0, "hidden": 0}
    worst = (-1.0, 0, math.nan)
    for element in np.argsort(keys).tolist():
        difference, error, why_not = probe.compare(offset + element, float(gradient[element]))
        counts[why_not] += 1
        if why_not == "kink":
            continue
        worst = max(worst, (error, element, difference))
        if counts[""] + counts["hidden"] == samples:
            break
    error, element, difference = worst if worst[0] >= 0 else (math.nan, 0, math.nan)
    index = tuple(int(i) for i in np.unravel_index(element, parameter.shape))
    return ParameterReport(
        parameter.name, parameter.shape, counts[""], counts["kink"], counts["hidden"], error, index,
        float(gradient[element]), difference,
    )  # fmt: skip
