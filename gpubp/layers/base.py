"""What every layer is: a frozen description that knows its widths, parameters and calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from gpubp.errors import unknown_name
from gpubp.kernels.spec import ACTIVATIONS, kernel
from gpubp.plan.build import Builder, Parameter
from gpubp.plan.ir import Buffer
from gpubp.registry import Registry
from gpubp.settings import Settings


@dataclass(frozen=True)
class Layer(Settings, ABC):
    """A layer of a network; ``position`` counts from 1 and names its buffers (W1, z1, a1)."""

    trained: ClassVar[bool] = False

    @property
    def draws(self) -> int | None:
        """What it draws random numbers for, a purpose of :mod:`gpubp.streams`; None: nothing."""
        return None

    def width(self, width: int) -> int:
        """Return the number of outputs for a number of inputs."""
        return width

    def parameters(self, position: int, width: int) -> tuple[Parameter, ...]:
        """Return the trained arrays for a number of inputs."""
        return ()

    @abstractmethod
    def forward(self, build: Builder, position: int, x: Buffer) -> Buffer:
        """Emit the forward calls; return the output."""

    @abstractmethod
    def backward(
        self, build: Builder, position: int, x: Buffer, a: Buffer, da: Buffer, wanted: bool
    ) -> Buffer | None:
        """Emit the backward calls; return the gradient at ``x`` if it is ``wanted``."""


LAYERS: Registry[Layer] = Registry("layer")


def check_activation(name: str) -> None:
    """Refuse the name of no activation.

    Raises:
        InputError: it is unknown; the nearest name is suggested.
    """
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)


def activation_backward(
    build: Builder, name: str, z: Buffer, a: Buffer, da: Buffer, dz: Buffer
) -> None:
    """Emit dz from da by the activation's delta kernel, with what that needs of z and a."""
    kept = {"z": z, "a": a}
    operands = [kept[saved] for saved in kernel(name).saved]
    formula = f"{dz.name} = {da.name} ⊙ {name}'({operands[0].name if operands else ''})"
    build.emit(f"{name}_delta", da, *operands, dz, formula=formula)
