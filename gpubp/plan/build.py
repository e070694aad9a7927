"""Builds plans: how a network, a loss and an optimizer become calls over buffers.

Layers, losses and optimizers each say how they lower themselves, by calling the builder; this
module gives them names, buffers and the order of the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gpubp.errors import PlanError
from gpubp.kernels.contract import WIDE, Shape, size
from gpubp.plan.ir import (
    ANY,
    COUNTERS,
    COUNTS,
    DATA,
    GRADS,
    PARAMS,
    PARTIALS,
    ROUNDED,
    SUMS,
    TRANSIENT,
    Buffer,
    Call,
    Number,
    Plan,
)  # fmt: skip
from gpubp.plan.memory import ALIGNMENT, round_up
from gpubp.settings import Settings, number
from gpubp.streams import of_layers


@dataclass(frozen=True)
class Parameter:
    """A trained array: its place in the network, shape, and whether penalties and decay apply."""

    name: str
    shape: Shape
    decays: bool
    initializer: str


class ParameterLayout:
    """Where each parameter lies in the flat vector: those that decay first, then the others.

    Each starts at a multiple of ``alignment`` elements. ``count`` is the number of parameters,
    ``size`` the length of the vector; what lies between them stays 0.
    """

    def __init__(self, parameters: Sequence[Parameter], alignment: int = 1) -> None:
        self.parameters = tuple(sorted(parameters, key=lambda parameter: not parameter.decays))
        self.offsets: dict[str, int] = {}
        self.count = self.size = self.decaying = 0
        for parameter in self.parameters:
            self.offsets[parameter.name] = self.size
            self.count += size(parameter.shape)
            self.size = round_up(self.size + size(parameter.shape), alignment)
            if parameter.decays:
                self.decaying = self.size
        self._by_name: Mapping[str, Parameter] = {p.name: p for p in self.parameters}

    def buffer(self, name: str, dtype: str, region: str = PARAMS) -> Buffer:
        """Return a parameter, or what belongs to it in another vector, as a buffer."""
        prefix = "d" if region == GRADS else ""
        return Buffer(prefix + name, self._by_name[name].shape, dtype, region, self.offsets[name])

    def range(self, start: int, stop: int, dtype: str, region: str) -> Buffer:
        """Return a part of a flat vector as a buffer."""
        whole = (start, stop) == (0, self.size)
        name = region if whole else f"{region}[{start}:{stop}]"
        return Buffer(name, (stop - start,), dtype, region, start)


@dataclass(frozen=True)
class Rows:
    """Which rows of a minibatch a plan computes: all of them, or one thread's share."""

    batch: int
    first: int = 0
    count: int = -1

    @property
    def size(self) -> int:
        """The number of rows."""
        return self.batch if self.count < 0 else self.count


@dataclass(frozen=True)
class Inputs:
    """What a plan is fed: the number of features and the dtypes of the arrays to be bound.

    ``target`` is "labels" (int64 class ids), "values" (rows of ``outputs`` numbers) or "".
    """

    features: int
    x_dtype: str
    target: str = ""
    outputs: int = 0
    y_dtype: str = "int64"
    weights_dtype: str = ""


class LayerLike(Protocol):
    """What the builder asks of a layer."""

    @property
    def draws(self) -> int | None:
        """What it draws random numbers for, a purpose of :mod:`gpubp.streams`; None: nothing."""

    def forward(self, build: Builder, position: int, x: Buffer) -> Buffer:
        """Emit the forward calls; return the output."""

    def backward(
        self, build: Builder, position: int, x: Buffer, a: Buffer, da: Buffer, wanted: bool
    ) -> Buffer | None:
        """Emit the backward calls; return the gradient at ``x`` if it is ``wanted``."""


class LossLike(Protocol):
    """What the builder asks of a loss."""

    def lower(
        self, build: Builder, z: Buffer, y: Buffer, weights: Buffer | None, scale: float
    ) -> Buffer:
        """Emit the loss; return the gradient at ``z``."""

    def lower_metric(self, build: Builder, z: Buffer, y: Buffer) -> None:
        """Emit what is counted beside the loss."""

    def lower_link(self, build: Builder, z: Buffer) -> Buffer:
        """Emit the map from network outputs to predictions; return the predictions."""


class OptimizerLike(Protocol):
    """What the builder asks of an optimizer."""

    def lower(self, build: Builder, layout: ParameterLayout) -> None:
        """Emit the update of the whole parameter vector."""


@dataclass(frozen=True)
class Regularization(Settings):
    """What is added to and done with the gradient before the optimizer sees it.

    Raises:
        InputError: a setting is out of its range.
    """

    l1: float = number(0.0, least=0)
    l2: float = number(0.0, least=0)
    clip_value: float | None = number(None, above=0)
    clip_norm: float | None = number(None, above=0)


class Builder:
    """Collects the calls of one plan.

    ``dtype`` is what it multiplies with. Where that is bfloat16, parameters, gradients, targets and
    the network's outputs are ``wide`` all the same, float32.
    """

    def __init__(
        self, layout: ParameterLayout, dtype: str, rows: Rows, inputs: Inputs, *, training: bool
    ) -> None:
        self.layout = layout
        self.dtype = dtype
        self.wide = WIDE[dtype]
        self.rows = rows
        self.inputs = inputs
        self.training = training
        self.calls: dict[str, list[Call]] = {"forward": [], "backward": [], "update": []}
        self.phase = "forward"
        self.last = -1
        self.streams: list[int] = []

    def emit(
        self, kernel: str, *operands: Buffer | None, formula: str = "", **scalars: Number
    ) -> None:
        """Append a call to the phase that is being built."""
        self.calls[self.phase].append(Call(kernel, operands, tuple(scalars.items()), formula))

    def temporary(self, name: str, width: int | None = None, dtype: str = "") -> Buffer:
        """Return a transient buffer with a row for every row, of ``width`` columns or of none."""
        shape = (self.rows.size,) if width is None else (self.rows.size, width)
        return Buffer(name, shape, dtype or self.dtype, TRANSIENT)

    def scalar(self, name: str, dtype: str = "float64") -> Buffer:
        """Return a transient buffer of one element."""
        return Buffer(name, (1,), dtype, TRANSIENT)

    def parameter(self, name: str, *, wide: bool = False) -> Buffer:
        """Return a parameter in the plan's dtype, or in the one that it is trained in."""
        rounded = self.dtype != self.wide and not wide
        return self.layout.buffer(
            name, self.dtype if rounded else self.wide, ROUNDED if rounded else PARAMS
        )

    def gradient(self, name: str) -> Buffer:
        """Return the gradient of a parameter."""
        return self.layout.buffer(name, self.wide, GRADS)

    def vector(self, region: str, start: int = 0, stop: int | None = None) -> Buffer:
        """Return a vector over parameters, or the part of it from ``start`` to ``stop``."""
        dtype = self.dtype if region == ROUNDED else self.wide
        stop = self.layout.size if stop is None else stop
        return self.layout.range(start, stop, dtype, region)

    def plan(self, title: str) -> Plan:
        """Return what was emitted as a plan."""
        return Plan(
            f"{title} of {self.rows.size} of {self.rows.batch} rows"
            if self.rows.size != self.rows.batch
            else title,
            self.rows.size,
            self.dtype,
            tuple(self.calls["forward"]),
            tuple(self.calls["backward"]),
            tuple(self.calls["update"]),
            LOSS if any(LOSS in call.writes() for call in self.calls["forward"]) else None,
        )


ROW, STEP, START, SEED = (
    Buffer(name, (1,), "int64", COUNTERS, offset)
    for offset, name in enumerate(("row", "step", "start", "seed"))
)
LOSS, SQUARED_ERRORS = (
    Buffer(name, (1,), "float64", SUMS, offset) for offset, name in enumerate(("loss", "errors"))
)
CORRECT = Buffer("correct", (1,), "int64", COUNTS, 0)
SQUARES = Buffer("squares", (1,), "float64", PARTIALS, 0)
LR = Buffer("lr", (1,), "float64", TRANSIENT)
SLOT = ALIGNMENT  # elements of SUMS and COUNTS for each share of the minibatch


def training_plan(
    layers: Sequence[LayerLike],
    loss: LossLike,
    optimizer: OptimizerLike,
    build: Builder,
    regularization: Regularization,
) -> Plan:
    """Return one training step: minibatch, forward, loss, backward, update."""
    build.emit(
        "rate", _data("rates", (ANY,), "float64"), STEP, START, LR, formula="η = schedule(t)"
    )
    x, y, weights = _minibatch(build, shuffled=True)
    outputs = _forward(layers, build, x)
    dz = loss.lower(build, outputs[-1], y, weights, 1.0 / build.rows.batch)
    build.phase = "backward"
    _backward(layers, build, [x, *outputs], dz)
    build.phase = "update"
    _regularize(build, regularization)
    optimizer.lower(build, build.layout)
    if build.dtype != build.wide:
        formula = f"{ROUNDED} = {build.dtype}({PARAMS})"
        build.emit("round_bfloat16", build.vector(PARAMS), build.vector(ROUNDED), formula=formula)
    build.emit("advance", ROW, STEP, rows=build.rows.batch, formula="t = t + 1")
    return build.plan("training step")


def evaluation_plan(
    layers: Sequence[LayerLike], loss: LossLike, build: Builder, *, indexed: bool
) -> Plan:
    """Return one step of evaluation: the loss summed over rows, and the loss's metric.

    With ``indexed`` the rows are those that the array "permutation" names.
    """
    x, y, weights = _minibatch(build, shuffled=indexed)
    z = _forward(layers, build, x)[-1]
    loss.lower_metric(build, z, y)
    loss.lower(build, z, y, weights, 1.0)
    build.emit("advance", ROW, STEP, rows=build.rows.batch, steps=0, formula="next rows")
    return build.plan("evaluation")


def prediction_plan(
    layers: Sequence[LayerLike], loss: LossLike | None, build: Builder, *, indexed: bool = False
) -> Plan:
    """Return one step of prediction into the array "out": outputs, or with ``loss`` its link.

    With ``indexed`` the rows are those that the array "permutation" names.
    """
    x = _features(build, shuffled=indexed)
    z = _forward(layers, build, x)[-1]
    out = loss.lower_link(build, z) if loss is not None else z
    target = _data("out", (ANY, out.shape[1]), build.wide)
    build.emit("put_rows", out, ROW, target, first=build.rows.first, formula=f"out = {out.name}")
    build.emit("advance", ROW, STEP, rows=build.rows.batch, steps=0, formula="next rows")
    return build.plan("prediction")


def _data(name: str, shape: Shape, dtype: str) -> Buffer:
    return Buffer(name, shape, dtype, DATA)


def _features(build: Builder, *, shuffled: bool) -> Buffer:
    inputs = build.inputs
    x = build.temporary("x", inputs.features)
    _fetch(build, _data("X", (ANY, inputs.features), inputs.x_dtype), x, shuffled, "X")
    return x


def _minibatch(build: Builder, *, shuffled: bool) -> tuple[Buffer, Buffer, Buffer | None]:
    """Emit the fetching of features, targets and sample weights."""
    inputs = build.inputs
    x = _features(build, shuffled=shuffled)
    if inputs.target == "labels":
        y = build.temporary("y", dtype="int64")
        _fetch(build, _data("y", (ANY,), "int64"), y, shuffled, "y")
    elif inputs.target == "values":
        y = build.temporary("y", inputs.outputs, build.wide)
        _fetch(build, _data("y", (ANY, inputs.outputs), inputs.y_dtype), y, shuffled, "y")
    else:
        raise PlanError(f"a loss needs targets, got {inputs!r}")
    if not inputs.weights_dtype:
        return x, y, None
    weights = build.temporary("w", dtype=build.wide)
    _fetch(build, _data("weights", (ANY,), inputs.weights_dtype), weights, shuffled, "weights")
    return x, y, weights


def _fetch(build: Builder, source: Buffer, target: Buffer, shuffled: bool, name: str) -> None:
    labels = target.dtype == "int64"
    first = build.rows.first
    if shuffled:
        permutation = _data("permutation", (ANY,), "int64")
        kernel = "gather_labels" if labels else "gather"
        formula = f"{target.name} = {name}[permutation], next {build.rows.size} rows"
        build.emit(kernel, source, permutation, ROW, target, first=first, formula=formula)
    else:
        kernel = "take_labels" if labels else "take_rows"
        formula = f"{target.name} = next {build.rows.size} rows of {name}"
        build.emit(kernel, source, ROW, target, first=first, formula=formula)


def _forward(layers: Sequence[LayerLike], build: Builder, x: Buffer) -> list[Buffer]:
    """Emit every layer; return their outputs."""
    build.last = len(layers)
    build.streams = list(of_layers(layer.draws for layer in layers))
    outputs = []
    for position, layer in enumerate(layers, start=1):
        x = layer.forward(build, position, x)
        outputs.append(x)
    return outputs


def _backward(
    layers: Sequence[LayerLike], build: Builder, ends: Sequence[Buffer], gradient: Buffer
) -> None:
    """Emit every layer's backward, last first; below the first trained layer nobody needs any."""
    lowest = next((i for i, layer in enumerate(layers) if getattr(layer, "trained", False)), 0)
    for index in range(len(layers) - 1, lowest - 1, -1):
        passed = layers[index].backward(
            build, index + 1, ends[index], ends[index + 1], gradient, index > lowest
        )
        if passed is not None:
            gradient = passed


def _regularize(build: Builder, regularization: Regularization) -> None:
    """Emit penalties on the decaying parameters, then clipping of the whole gradient."""
    decaying, r = build.layout.decaying, regularization
    if decaying and (r.l1 or r.l2):
        params, grads = (build.vector(region, 0, decaying) for region in (PARAMS, GRADS))
        if r.l1:
            build.emit("l1_penalty", params, grads, l1=r.l1, formula=f"g += {r.l1:g} sign(W)")
        if r.l2:
            build.emit("l2_penalty", params, grads, l2=r.l2, formula=f"g += {r.l2:g} W")
    grads = build.vector(GRADS)
    if r.clip_value is not None:
        limit = r.clip_value
        formula = f"g = min(max(g, -{limit:g}), {limit:g})"
        build.emit("clip_value", grads, limit=limit, formula=formula)
    if r.clip_norm is not None:
        build.emit("sum_of_squares", grads, SQUARES, formula="‖g‖²")
        formula = f"g *= min(1, {r.clip_norm:g} / ‖g‖)"
        build.emit("clip_norm", SQUARES, grads, limit=r.clip_norm, formula=formula)
