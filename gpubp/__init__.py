"""gpubp trains neural networks by backpropagation on NVIDIA GPUs and, with the same code, on CPUs.

>>> import gpubp
>>> network = gpubp.Sequential(gpubp.Dense(256, "relu"), gpubp.Dropout(0.2), gpubp.Dense(10))
>>> trainer = gpubp.Trainer(network, loss="softmax_cross_entropy", optimizer="adam")
>>> trainer.fit(X, y, epochs=20)  # doctest: +SKIP

The names below are loaded when they are first used, so that importing the package stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gpubp.interrupts import deferred

if TYPE_CHECKING:
    from gpubp import callbacks, errors, losses, ops, optimizers, schedules
    from gpubp.gradients import check_gradients
    from gpubp.layers import Activation, Dense, Dropout
    from gpubp.network import Sequential
    from gpubp.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "Activation", "Dense", "Dropout", "Sequential", "Trainer", "__version__", "callbacks",
    "check_gradients", "errors", "losses", "ops", "optimizers", "schedules",
]  # fmt: skip

_WHERE = {
    "Activation": "layers",
    "Dense": "layers",
    "Dropout": "layers",
    "Sequential": "network",
    "Trainer": "trainer",
    "check_gradients": "gradients",
}


def __getattr__(name: str) -> Any:
    """Load a public name: a class or function from its module, or a module."""
    if name not in __all__:
        raise AttributeError(f"module 'gpubp' has no attribute {name!r}")
    with deferred():  # Ctrl-C amid an import can be lost, or become another error
        if name in _WHERE:
            return getattr(import_module(f"gpubp.{_WHERE[name]}"), name)
        return import_module(f"gpubp.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
