"""The network family: widths, depths, sizes of the minibatch, dtypes and activations.

By default a part of it that takes a few minutes: each property varied alone, around a common
middle. With --all it is the whole product.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from gpubp import devices
from gpubp.bench.cases import ACTIVATIONS, Case, steps_of_epoch

_FEATURES, _CLASSES = 64, 10
_WIDTHS, _DEPTHS = (32, 128, 512, 2048), (1, 2, 4)  # of the hidden layers, and how many
_BATCHES = (16, 64, 256, 1024)
_AXES = (_WIDTHS, _DEPTHS, _BATCHES, devices.PRECISIONS, ACTIVATIONS)
_MIDDLE = (128, 2, 64, "fp32", "relu")


def family(device: str = "cpu", *, whole: bool) -> Iterator[Case]:
    """Yield the cases, in those precisions that the device has."""
    choice = devices.resolve(device)
    if whole:
        chosen = product(*_AXES)
    else:
        chosen = iter(
            dict.fromkeys(
                (*_MIDDLE[:axis], value, *_MIDDLE[axis + 1 :])
                for axis, values in enumerate(_AXES)
                for value in values
            )
        )
    for width, depth, batch, precision, activation in chosen:
        if not devices.has_precision(choice, precision):
            continue
        sizes = (_FEATURES, *[width] * depth, _CLASSES)
        steps = steps_of_epoch(sizes, batch)
        yield Case(sizes, batch, steps, activation, precision, device)
