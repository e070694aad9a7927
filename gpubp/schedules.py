"""Learning-rate schedules: the rate of step t is the optimizer's lr times factor(t).

Steps are counted from 0 at the run's first. A schedule is asked for the factors of many steps at
once, so that an epoch's rates can lie beside the data on the device. All are pure functions of the
step but ``reduce_on_plateau``, which also watches a loss and therefore has state.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.errors import CheckpointError, InputError
from gpubp.registry import Registry
from gpubp.settings import Settings, entry, number, whole

Steps = NDArray[np.int64]
Factors = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Span:
    """How long a run is: its steps in all, and those of one epoch."""

    total_steps: int
    steps_per_epoch: int


@dataclass(frozen=True)
class Schedule(Settings):
    """Base of all schedules.

    A run takes its own copy by :meth:`start`, calls :meth:`factors` before each epoch and
    :meth:`observe` after it, and keeps :meth:`state` in its checkpoints.
    """

    def factors(self, steps: Steps, span: Span) -> Factors:
        """Return the factor of each of ``steps`` (int64, any shape) as float64 of that shape."""
        raise NotImplementedError

    def start(self) -> Schedule:
        """Return this schedule as it is before a run's first step; pure ones return themselves."""
        return self

    def observe(self, value: float) -> None:
        """Take note of the loss after an epoch: the validation loss if there is one."""

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs to go on from here, as JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned.

        Raises:
            CheckpointError: the state is another schedule's.
        """
        if state:
            raise self._not_mine(state)

    def _not_mine(self, state: dict[str, Any]) -> CheckpointError:
        return CheckpointError(
            f"{state!r} is not the state of a {type(self).__name__} schedule; resume with the "
            "schedule that the run began with"
        )


SCHEDULES: Registry[Schedule] = Registry("schedule")


def _position(steps: Steps, span: Span) -> Factors:
    """Return how far along the run each step is, from 0 at its first to 1 after its last and on."""
    return np.minimum(steps / max(span.total_steps, 1), 1.0)


def _ease(start: float, end: float, position: Factors) -> Factors:
    """Return half a cosine from ``start`` at position 0 to ``end`` at 1."""
    return end + (start - end) * (0.5 + 0.5 * np.cos(np.pi * position))


@SCHEDULES.add("constant")
@dataclass(frozen=True)
class Constant(Schedule):
    """factor(t) = 1."""

    def factors(self, steps: Steps, span: Span) -> Factors:  # noqa: D102
        return np.ones(np.shape(steps))


@SCHEDULES.add("step")
@dataclass(frozen=True)
class StepDecay(Schedule):
    """factor(t) = gamma^⌊epoch(t) / every⌋, epoch(t) = ⌊t / steps_per_epoch⌋."""

    every: int = whole(10, least=1)
    gamma: float = number(0.5, above=0, most=1)

    def factors(self, steps: Steps, span: Span) -> Factors:  # noqa: D102
        falls = steps // (span.steps_per_epoch * self.every)
        return np.power(self.gamma, falls.astype(np.float64))


@SCHEDULES.add("exponential")
@dataclass(frozen=True)
class Exponential(Schedule):
    """factor(t) = gamma^(t / steps_per_epoch): smooth, and gamma^n at the start of epoch n."""

    gamma: float = number(0.95, above=0, most=1)

    def factors(self, steps: Steps, span: Span) -> Factors:  # noqa: D102
        return np.power(self.gamma, steps / span.steps_per_epoch)


@SCHEDULES.add("inverse_scaling")
@dataclass(frozen=True)
class InverseScaling(Schedule):
    """factor(t) = (1 / (t + 1))^power.

    The ``invscaling`` of scikit-learn has the same formula, but counts samples in place of steps
    and moves once an epoch.
    """

    power: float = number(0.5, least=0)

    def factors(self, steps: Steps, span: Span) -> Factors:  # noqa: D102
        return np.power(1.0 / (steps + 1), self.power)


@SCHEDULES.add("cosine")
@dataclass(frozen=True)
class Cosine(Schedule):
    """factor(t) = floor + (1 - floor) (1 + cos(π t / total)) / 2.

    Loshchilov & Hutter 2017, SGDR: Stochastic gradient descent with warm restarts, eq. 5, of
    which this is the first period: there are no restarts.
    """

    floor: float = number(0.0, least=0, most=1)

    def factors(self, steps: Steps, span: Span) -> Factors:  # noqa: D102
        return _ease(1.0, self.floor, _position(steps, span))


@SCHEDULES.add("one_cycle")
@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from 1/start to 1 in the first ``warm`` part of the run, then down to 1/final.

    Smith 2018, A disciplined approach to neural network hyper-parameters, section 4; here both
    slopes are half cosines, where the report has straight lines and a short last descent.
    """

    warm: float = number(0.3, above=0, below=1)
    start_divisor: float = number(25.0, least=1)
    final_divisor: float = number(1e4, least=1)

    def factors(self, steps: Steps, span: Span) -> Factors:  # noqa: D102
        position = _position(steps, span)
        up = _ease(1.0 / self.start_divisor, 1.0, position / self.warm)
        down = _ease(1.0, 1.0 / self.final_divisor, (position - self.warm) / (1.0 - self.warm))
        return np.where(position < self.warm, up, down)


@SCHEDULES.add("warmup")
@dataclass(frozen=True)
class Warmup(Schedule):
    """A straight rise over the first n steps, then another schedule.

    factor(t) = then(0) (t + 1) / (n + 1) for t < n, then(t - n) from there on, where ``then`` sees
    a run that is n steps shorter. n is ``steps``, or ``epochs`` times the steps of one (one epoch
    if neither is given). After Goyal et al. 2017, Accurate, large minibatch SGD, section 2.2.
    """

    steps: int | None = whole(None, least=0)
    epochs: float | None = number(None, least=0)
    then: Schedule = entry(SCHEDULES, "constant")  # noqa: RUF009 (a field, not a value)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps is not None and self.epochs is not None:
            raise InputError(
                f"Warmup: steps ({self.steps}) and epochs ({self.epochs:g}) are both given; "
                "leave one of them out"
            )

    def factors(self, steps: Steps, span: Span) -> Factors:  # noqa: D102
        n = self._length(span)
        rest = Span(max(span.total_steps - n, 1), span.steps_per_epoch)
        after = self.then.factors(np.maximum(steps - n, 0), rest)
        return after * np.minimum((steps + 1) / (n + 1), 1.0)

    def start(self) -> Schedule:  # noqa: D102
        return dataclasses.replace(self, then=self.then.start())

    def observe(self, value: float) -> None:  # noqa: D102
        self.then.observe(value)

    def state(self) -> dict[str, Any]:  # noqa: D102
        return self.then.state()

    def restore(self, state: dict[str, Any]) -> None:  # noqa: D102
        self.then.restore(state)

    def _length(self, span: Span) -> int:
        if self.steps is not None:
            return self.steps
        return round((1.0 if self.epochs is None else self.epochs) * span.steps_per_epoch)


@dataclass(frozen=True)
class _Watch(Settings):
    """What a plateau schedule remembers: the factor, the best loss and the epochs since."""

    scale: float = number(1.0, least=0, most=1)
    best: float | None = number(None)
    wait: int = whole(0, least=0)


@SCHEDULES.add("reduce_on_plateau")
@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """The factor is multiplied by ``factor`` whenever the loss has stopped falling.

    A loss is better if it is below best - threshold |best|; after ``patience`` epochs in a row
    without a better one the factor falls, to ``minimum`` at the least, and the count begins anew.
    NaN and infinity are never better.
    """

    factor: float = number(0.5, above=0, below=1)
    patience: int = whole(5, least=1)
    threshold: float = number(1e-4, least=0)
    minimum: float = number(0.0, least=0, most=1)
    _watch: _Watch = field(default_factory=_Watch, init=False, repr=False, compare=False)

    def factors(self, steps: Steps, span: Span) -> Factors:  # noqa: D102
        return np.full(np.shape(steps), self._watch.scale)

    def start(self) -> Schedule:  # noqa: D102
        return dataclasses.replace(self)

    def observe(self, value: float) -> None:  # noqa: D102
        scale, best, wait = self._watch.scale, self._watch.best, self._watch.wait + 1
        better = best is None or value < best - self.threshold * abs(best)
        if better and math.isfinite(value):
            best, wait = float(value), 0
        elif wait >= self.patience:
            scale, wait = max(scale * self.factor, self.minimum), 0
        self._remember(_Watch(scale, best, wait))

    def state(self) -> dict[str, Any]:  # noqa: D102
        return dataclasses.asdict(self._watch)

    def restore(self, state: dict[str, Any]) -> None:  # noqa: D102
        try:
            self._remember(_Watch(**state))
        except (TypeError, InputError) as error:
            raise self._not_mine(state) from error

    def _remember(self, watch: _Watch) -> None:
        object.__setattr__(self, "_watch", watch)
