"""A network: layers in a row, bound to a number of inputs when it first sees data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.errors import InputError
from gpubp.initializers import INITIALIZERS
from gpubp.kernels.contract import size
from gpubp.layers import LAYERS, Layer
from gpubp.plan.build import Parameter, ParameterLayout
from gpubp.streams import of_layers


class Sequential:
    """Layers applied one after the other.

    Args:
        *layers: for example ``Dense(256, "relu"), Dropout(0.2), Dense(10)``. The last one gives the
            network's outputs: logits for the cross-entropies, values for the other losses.

    Raises:
        InputError: there is no layer, something is not a layer, or nothing could be trained.
    """

    def __init__(self, *layers: Layer) -> None:
        if not layers:
            raise InputError("a network needs at least one layer, such as Dense(10)")
        self.layers = tuple(LAYERS.get(layer) for layer in layers)
        if not any(layer.trained for layer in self.layers):
            raise InputError("a network needs a layer that can be trained, such as Dense(10)")

    def __repr__(self) -> str:
        return f"Sequential({', '.join(layer.brief() for layer in self.layers)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequential) and self.layers == other.layers

    def __hash__(self) -> int:
        return hash(self.layers)

    def parameters(self, features: int) -> tuple[Parameter, ...]:
        """Return the trained arrays for a number of input features, in the order of the layers."""
        width = features
        found: list[Parameter] = []
        for position, layer in enumerate(self.layers, start=1):
            found += layer.parameters(position, width)
            width = layer.width(width)
        return tuple(found)

    def layout(self, features: int, alignment: int = 1) -> ParameterLayout:
        """Return where each parameter lies in the flat vector, at multiples of ``alignment``."""
        return ParameterLayout(self.parameters(features), alignment)

    def outputs(self, features: int) -> int:
        """Return the number of outputs for a number of input features."""
        width = features
        for layer in self.layers:
            width = layer.width(width)
        return width

    def initial_parameters(self, features: int, seed: int) -> NDArray[np.float64]:
        """Draw the flat parameter vector, float64, on the host: the same for every device."""
        layout, width = self.layout(features), features
        vector = np.empty(layout.size, np.float64)
        streams = of_layers(layer.draws for layer in self.layers)
        for position, (layer, stream) in enumerate(zip(self.layers, streams, strict=True), start=1):
            for parameter in layer.parameters(position, width):
                start, count = layout.offsets[parameter.name], size(parameter.shape)
                initializer = INITIALIZERS.get(parameter.initializer)
                values = initializer.draw(parameter.shape, seed, stream)
                vector[start : start + count] = values.ravel()
            width = layer.width(width)
        return vector

    def summary(self, features: int) -> str:
        """Return a table of the layers with their outputs and numbers of parameters."""
        width, total = features, 0
        rows = [("", "layer", "outputs", "parameters"), ("0", "input", str(features), "0")]
        for position, layer in enumerate(self.layers, start=1):
            count = sum(size(p.shape) for p in layer.parameters(position, width))
            width = layer.width(width)
            total += count
            rows.append((str(position), layer.brief(), str(width), f"{count:,}"))
        rows.append(("", "total", "", f"{total:,}"))
        w0, w1, w2, w3 = (max(len(row[column]) for row in rows) for column in range(4))
        return "\n".join(
            f"{number:>{w0}}  {layer:<{w1}}  {outputs:>{w2}}  {count:>{w3}}"
            for number, layer, outputs, count in rows
        )

    def config(self) -> list[dict[str, Any]]:
        """Return the layers as JSON values."""
        return [LAYERS.config(layer) for layer in self.layers]

    @classmethod
    def from_config(cls, config: list[dict[str, Any]]) -> Sequential:
        """Return the network that :meth:`config` described."""
        return cls(*(LAYERS.from_config(layer) for layer in config))
