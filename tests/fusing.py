"""Plans to be fused, and a backend that runs them fused by the reference kernels."""

from gpubp import Sequential, Trainer
from gpubp.backends.numpy import NumpyBackend


class FusingBackend(NumpyBackend):
    """The reference kernels, for all calls that ``has`` says yes to."""

    def __init__(self, has):
        super().__init__()
        self._has = has

    def has(self, call):
        return self._has(call)


def trainer_of(*layers, has=lambda call: False, features=5, **settings):
    """Return a trainer whose plans are fused as ``has`` says, with initial parameters."""
    trainer = Trainer(Sequential(*layers), backend="numpy", **settings)
    trainer._backend = FusingBackend(has)
    trainer.initialize(features)
    return trainer


def plan_of(*layers, **settings):
    """Return a training plan as it is lowered, nothing fused."""
    return trainer_of(*layers, **settings).plan(8)


def kernels(calls):
    return [call.kernel for call in calls]


def call_of(calls, kernel):
    """Return the one call of a kernel."""
    (found,) = [call for call in calls if call.kernel == kernel]
    return found


def names(call):
    return [buffer.name if buffer else None for buffer in call.operands]
