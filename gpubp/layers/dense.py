"""The fully connected layer."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from typing import ClassVar

from gpubp.initializers import INITIALIZERS, for_activation
from gpubp.layers.base import LAYERS, Layer, activation_backward, check_activation
from gpubp.plan.build import Builder, Parameter
from gpubp.plan.ir import Buffer
from gpubp.settings import whole
from gpubp.streams import INITIAL_WEIGHTS


@LAYERS.add("dense")
@dataclass(frozen=True)
class Dense(Layer):
    """a = f(x W + b), W of shape (I, O) and b of shape (O,).

    Args:
        units: the number of outputs, O.
        activation: f, a name of :data:`gpubp.kernels.spec.ACTIVATIONS`.
        initializer: how W is drawn, a name of ``gpubp.initializers.INITIALIZERS``; "auto" takes
            what fits the activation.
        bias: whether there is a b; it starts at 0.
        decays: whether penalties and weight decay apply to W; they never apply to b.

    Raises:
        InputError: ``units`` is not a positive integer, or a name is unknown.
    """

    units: int = whole(MISSING, least=1)
    activation: str = "identity"
    initializer: str = "auto"
    bias: bool = True
    decays: bool = True

    trained: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_activation(self.activation)
        if self.initializer != "auto":
            INITIALIZERS.get(self.initializer)

    @property
    def draws(self) -> int:
        """Initial weights."""
        return INITIAL_WEIGHTS

    def width(self, width: int) -> int:
        """O."""
        return self.units

    def parameters(self, position: int, width: int) -> tuple[Parameter, ...]:
        """W and b."""
        chosen = self.initializer
        if chosen == "auto":
            chosen = for_activation(self.activation)
        weight = Parameter(f"W{position}", (width, self.units), self.decays, chosen)
        if not self.bias:
            return (weight,)
        return weight, Parameter(f"b{position}", (self.units,), False, "zeros")

    def forward(self, build: Builder, position: int, x: Buffer) -> Buffer:
        """Z = x W + b; a = f(z)."""
        z, a, weight = self._z(build, position), self._a(build, position), f"W{position}"
        build.emit("matmul", x, build.parameter(weight), z, formula=f"{z.name} = {x.name} {weight}")
        if self.bias:
            b = build.parameter(f"b{position}", wide=z.dtype == build.wide)
            build.emit("bias_add", z, b, z, formula=f"{z.name} += {b.name}")
        if self.activation == "identity":
            return z
        build.emit(self.activation, z, a, formula=f"{a.name} = {self.activation}({z.name})")
        return a

    def backward(
        self, build: Builder, position: int, x: Buffer, a: Buffer, da: Buffer, wanted: bool
    ) -> Buffer | None:
        """Dz = da ⊙ f'(z); db = Σ dz over rows; dW = xᵀ dz; dx = dz Wᵀ."""
        z = self._z(build, position)
        dz = da
        if self.activation != "identity":
            dz = build.temporary(f"d{z.name}", self.units)
            activation_backward(build, self.activation, z, a, da, dz)
        if self.bias:
            db = build.gradient(f"b{position}")
            build.emit("bias_grad", dz, db, formula=f"{db.name} = Σ_rows {dz.name}")
        dw, weight = build.gradient(f"W{position}"), build.parameter(f"W{position}")
        formula = f"{dw.name} = {x.name}ᵀ {dz.name}"
        build.emit("matmul", x, dz, dw, transpose_a=True, formula=formula)
        if not wanted:
            return None
        dx = build.temporary(f"d{x.name}", x.shape[1])
        formula = f"{dx.name} = {dz.name} {weight.name}ᵀ"
        build.emit("matmul", dz, weight, dx, transpose_b=True, formula=formula)
        return dx

    def _z(self, build: Builder, position: int) -> Buffer:
        # The network's outputs are not rounded: a loss is a small difference of them.
        outputs = position == build.last and self.activation == "identity"
        return build.temporary(f"z{position}", self.units, build.wide if outputs else "")

    def _a(self, build: Builder, position: int) -> Buffer:
        return build.temporary(f"a{position}", self.units)
