"""Whether a network's last layers, its loss and its targets mean something together.

A loss on logits applies its own activation, so one before it makes another function of it. What can
mean nothing is refused; what may be meant is warned of.
"""

from __future__ import annotations

import math
from typing import Any

from array_api_compat import array_namespace

from gpubp.errors import InputError, warn
from gpubp.layers import Activation, Dense, Dropout
from gpubp.losses import LOSSES, Loss, SoftmaxCrossEntropy
from gpubp.network import Sequential

_ROWS = ("softmax", "log_softmax")
# Where an activation's values lie. What is not here has no limits.
_RANGES = {
    "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, math.inf),
    "softplus": (0.0, math.inf), "exponential": (0.0, math.inf), "softmax": (0.0, 1.0),
    "log_softmax": (-math.inf, 0.0),
}  # fmt: skip
_TOTAL = 1e-3  # how far a distribution's sum may be from 1
# The largest target's size, beyond which advice is given: outputs start with a size of about 1.
_SMALL, _LARGE = 1e-3, 1e2


def check_network(network: Sequential, loss: Loss) -> None:
    """Check that a network's layers and a loss mean something together.

    Raises:
        InputError: a softmax is over one unit or over another softmax, or the loss applies the very
            activation that stands before it.
    """
    width, before = 0, ""
    for layer in network.layers:
        width = layer.width(width)
        function = _function(layer)
        if function in _ROWS and width == 1:
            raise InputError(
                f"{layer.brief()} is a softmax of one unit, which is 1 whatever the unit is; use "
                "'sigmoid', or more units"
            )
        if isinstance(layer, Activation) and function in _ROWS and before in _ROWS:
            raise InputError(
                f"{layer.brief()} is a softmax of what is a softmax already; leave one of them out"
            )
        if not isinstance(layer, Dropout):
            before = function
    if isinstance(loss, SoftmaxCrossEntropy) and width == 1:
        raise InputError(
            "the network has one output, of which softmax is 1 whatever it is, so that nothing can "
            "be learned; use loss='sigmoid_cross_entropy', or an output for each class"
        )
    name = LOSSES.name_of(loss)
    if loss.link == "identity" or before in ("", "identity"):
        return
    said = f"the loss {name} applies {loss.link} itself, but the network ends with {before}"
    if before == loss.link:
        raise InputError(f"{said}; leave that out")
    if before in _RANGES:
        low, high = _RANGES[before]
        warn(
            f"{said}, so it sees values from {low:g} to {high:g} only; leave that out, unless it "
            "is meant",
            UserWarning,
        )


def check_targets(network: Sequential, loss: Loss, y: Any, weights: Any = None) -> None:
    """Warn of targets that outputs can't reach, or only slowly, or that are no distributions.

    What rows of weight 0 have does not matter.
    """
    said = _doubt(network, loss, y)
    if said and weights is not None:
        said = _doubt(network, loss, y[weights > 0])
    if said:
        warn(said, UserWarning)


def _doubt(network: Sequential, loss: Loss, y: Any) -> str:
    """Return what is odd about targets, the empty text if nothing is."""
    xp = array_namespace(y)
    if isinstance(loss, SoftmaxCrossEntropy):
        off = float(xp.max(xp.abs(xp.sum(y, axis=1) - 1))) if y.ndim == 2 else 0.0
        if off <= _TOTAL:
            return ""
        return (
            f"y has rows that do not sum to 1, by up to {off:.3g}, but rows of targets of softmax "
            "cross-entropy are distributions; divide each by its sum"
        )
    if loss.link != "identity":
        return ""
    functions = [_function(layer) for layer in network.layers if not isinstance(layer, Dropout)]
    low, high = _RANGES.get(functions[-1], (-math.inf, math.inf))
    least, most = float(xp.min(y)), float(xp.max(y))
    if least < low or most > high:
        return (
            f"y has values from {least:g} to {most:g}, but the network ends with {functions[-1]}, "
            f"whose values lie between {low:g} and {high:g}; end it with activation 'identity', or "
            "scale the targets"
        )
    if least < most and not _SMALL <= max(abs(least), abs(most)) <= _LARGE:
        return (
            f"y has values from {least:g} to {most:g}, but a network's outputs start with a size "
            "of about 1, so training would be slow or would diverge; train on (y - mean) / std of "
            "the targets, and turn predictions back"
        )
    return ""


def _function(layer: object) -> str:
    """Return the activation that a layer ends with, the empty text if there is none."""
    if isinstance(layer, Dense):
        return layer.activation
    return layer.function if isinstance(layer, Activation) else ""
