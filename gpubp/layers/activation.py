"""An activation as a layer of its own."""

from __future__ import annotations

from dataclasses import dataclass

from gpubp.layers.base import LAYERS, Layer, activation_backward, check_activation
from gpubp.plan.build import Builder
from gpubp.plan.ir import Buffer


@LAYERS.add("activation")
@dataclass(frozen=True)
class Activation(Layer):
    """a = f(x), f any activation of :data:`gpubp.kernels.spec.ACTIVATIONS`.

    Raises:
        InputError: the activation is unknown.
    """

    function: str

    def __post_init__(self) -> None:
        check_activation(self.function)

    def forward(self, build: Builder, position: int, x: Buffer) -> Buffer:
        """A = f(x)."""
        a = build.temporary(f"a{position}", x.shape[1])
        build.emit(self.function, x, a, formula=f"{a.name} = {self.function}({x.name})")
        return a

    def backward(
        self, build: Builder, position: int, x: Buffer, a: Buffer, da: Buffer, wanted: bool
    ) -> Buffer | None:
        """Dx = da ⊙ f'."""
        if not wanted:
            return None
        dx = build.temporary(f"d{x.name}", x.shape[1])
        activation_backward(build, self.function, x, a, da, dx)
        return dx
