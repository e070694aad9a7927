"""Dropout (Srivastava et al. 2014): in training, a random part of the inputs is set to 0."""

from __future__ import annotations

from dataclasses import MISSING, dataclass

from gpubp.layers.base import LAYERS, Layer
from gpubp.plan.build import SEED, STEP, Builder
from gpubp.plan.ir import Buffer
from gpubp.settings import number
from gpubp.streams import DROPOUT


@LAYERS.add("dropout")
@dataclass(frozen=True)
class Dropout(Layer):
    """In training a_i = x_i m_i / (1 - rate), m_i = 0 with probability ``rate``; else a = x.

    The mask depends on seed, step, element and which dropout of the network it is: it is the same
    on every backend, and backward draws it again instead of keeping it. A rate of 0 draws nothing.

    Raises:
        InputError: ``rate`` is not in [0, 1).
    """

    rate: float = number(MISSING, least=0, below=1)

    @property
    def draws(self) -> int | None:
        """A mask."""
        return DROPOUT if self.rate else None

    def forward(self, build: Builder, position: int, x: Buffer) -> Buffer:
        """A = x ⊙ m / (1 - rate)."""
        if not build.training or self.rate == 0:
            return x
        a = build.temporary(f"a{position}", x.shape[1])
        self._emit(build, "dropout", position, x, a)
        return a

    def backward(
        self, build: Builder, position: int, x: Buffer, a: Buffer, da: Buffer, wanted: bool
    ) -> Buffer | None:
        """Dx = da ⊙ m / (1 - rate), with the mask of forward."""
        if not wanted:
            return None
        if self.rate == 0:
            return da
        dx = build.temporary(f"d{x.name}_kept", x.shape[1])
        self._emit(build, "dropout_delta", position, da, dx)
        return dx

    def _emit(self, build: Builder, kernel: str, position: int, x: Buffer, y: Buffer) -> None:
        formula = f"{y.name} = {x.name} ⊙ m{position} / {1 - self.rate:g}"
        build.emit(
            kernel, x, SEED, STEP, y, formula=formula,
            rate=self.rate, stream=build.streams[position - 1], first=build.rows.first * x.shape[1],
        )  # fmt: skip
