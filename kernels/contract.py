"""What a kernel's contract is made of, and the check of a call against it.

The contracts themselves are the table in spec.py. Nothing here knows an array library.

Conventions. Outputs are operands and come last; a kernel returns None. Operands are C-contiguous.
Axis letters: B batch rows, I fan-in, O fan-out, K classes or outputs, N rows of a data set,
P parameters; M bytes of a row of O bits, 16 ceil(O / 128); ``...`` is any shape, the same wherever
it appears in one kernel. An axis written as a number has that length; K is at least 1, the others
may be 0. ``d<name>`` is the gradient of the loss at ``<name>``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from gpubp.errors import OperandError

Mode = Literal["read", "overwrite", "accumulate", "update"]
Shape = tuple[int, ...]

# What a kernel may work in, and what it computes and sums that in.
WIDE = {"float32": "float32", "float64": "float64", "bfloat16": "float32"}
FLOATS = tuple(WIDE)

# What a "real" operand may be. float16 is not among them: no CPU backend computes with it.
REAL_DTYPES = (
    "float32", "float64", "bool", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip


# The module, below every backend's package of kernels, that holds a family.
_MODULES = {
    "matrix": "matrix",
    "activation": "activations",
    "loss": "losses",
    "random": "random",
    "optimizer": "optimizers",
    "gradient": "gradients",
    "metric": "metrics",
    "data": "data",
}


class ArrayLike(Protocol):
    """What a check needs to know of an array or a plan's buffer."""

    @property
    def shape(self) -> Shape: ...  # noqa: D102
    @property
    def dtype(self) -> object: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Operand:
    """One array argument.

    ``dtype`` is ``"float"`` (the kernel's working dtype, one of FLOATS), ``"wide"`` (what that is
    computed in: see WIDE), ``"either"`` (one of these two), ``"real"`` (any real dtype, converted
    on reading) or the name of a fixed dtype. ``mode`` is how the kernel uses it:
    ``read``; ``overwrite`` (what was there is never looked at); ``accumulate`` (added to);
    ``update`` (read and written). ``transpose`` names the boolean scalar that swaps its last
    two axes.
    """

    name: str
    axes: tuple[str, ...]
    dtype: str = "float"
    mode: Mode = "read"
    optional: bool = False
    transpose: str = ""

    @property
    def written(self) -> bool:
        """Whether the kernel writes to it."""
        return self.mode != "read"

    @property
    def floating(self) -> bool:
        """Whether its dtype depends on the kernel's working dtype."""
        return self.dtype in ("float", "wide", "either")

    def dtypes(self, working: str = "") -> tuple[str, ...]:
        """Return the dtypes it may have; the first is what an output is made with.

        ``working`` is the kernel's working dtype, "" where that is not known.
        """
        if self.dtype == "real":
            return REAL_DTYPES
        if not self.floating:
            return (self.dtype,)
        narrow = (working,) if working else FLOATS
        choices = {
            "float": narrow,
            "wide": tuple(WIDE[dtype] for dtype in narrow),
            "either": (*narrow, *(WIDE[dtype] for dtype in narrow)),
        }
        return tuple(dict.fromkeys(choices[self.dtype]))


@dataclass(frozen=True, slots=True)
class Scalar:
    """One scalar argument, passed by keyword; without a default it must be given.

    Its value is at least ``least``, above ``above`` and below ``below``.
    """

    name: str
    kind: Literal["float", "int", "bool"]
    default: float | int | bool | None = None
    least: float = -math.inf
    below: float = math.inf
    above: float = -math.inf

    def admits(self, value: float) -> bool:
        """Return whether it may have a value; infinities and NaN it may not."""
        return self.least <= value < self.below and self.above < value

    def __str__(self) -> str:
        """Return the rule in words, such as ``a finite number above 0 and below 1``."""
        limits = {"above": self.above, "at least": self.least, "below": self.below}
        words = [f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit)]
        return f"a finite number {' and '.join(words)}".rstrip()


@dataclass(frozen=True, slots=True)
class Kernel:
    """The contract of one kernel.

    ``inplace`` lists the (input, output) pairs that may be the same memory. ``saved`` names what
    the delta kernel wants kept of this forward kernel, so that the planner may overwrite the rest.
    """

    name: str
    family: str
    operands: tuple[Operand, ...]
    formula: str
    scalars: tuple[Scalar, ...] = ()
    inplace: tuple[tuple[str, str], ...] = ()
    saved: tuple[str, ...] = ()
    source: str = ""
    index: Mapping[str, Operand] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {operand.name: operand for operand in self.operands})

    @property
    def module(self) -> str:
        """The name of the module that holds the kernel in the package of every backend."""
        return _MODULES[self.family]

    @property
    def outputs(self) -> tuple[Operand, ...]:
        """The operands that the kernel writes to."""
        return tuple(operand for operand in self.operands if operand.written)

    def signature(self) -> str:
        """Return the call as one line, such as ``relu(z[...], -> a[...])``."""
        parts = []
        for o in self.operands:
            mark = {"read": "", "overwrite": "-> ", "accumulate": "+> ", "update": "<> "}[o.mode]
            parts.append(f"{mark}{o.name}[{','.join(o.axes)}]{'?' if o.optional else ''}")
        parts += [s.name if s.default is None else f"{s.name}={s.default}" for s in self.scalars]
        return f"{self.name}({', '.join(parts)})"

    def bind(
        self, operands: Sequence[ArrayLike | None], scalars: Mapping[str, float | int | bool]
    ) -> dict[str, int | Shape]:
        """Check operands and scalars against the contract; return the length of each axis.

        Raises:
            OperandError: a wrong number, rank, shape or dtype, or an unknown or missing scalar.
        """
        axes, _ = self._match(operands, scalars)
        for declared, given in zip(self.operands, operands, strict=True):
            if given is None and not declared.optional:
                raise OperandError(f"{self.name}: operand {declared.name!r} is missing")
        return axes

    def infer(
        self, operands: Sequence[ArrayLike | None], scalars: Mapping[str, float | int | bool]
    ) -> dict[str, tuple[Shape, str]]:
        """Return shape and dtype of every output that is missing, from the operands that are not.

        An optional one that is None is not missing.

        Raises:
            OperandError: as :meth:`bind`, or an operand's shape does not follow from the others.
        """
        axes, working = self._match(operands, scalars)
        found: dict[str, tuple[Shape, str]] = {}
        for declared, given in zip(self.operands, operands, strict=True):
            if given is not None or declared.optional or not declared.written:
                continue
            unknown = [axis for axis in declared.axes if not axis.isdigit() and axis not in axes]
            if unknown or (declared.floating and not working):
                raise OperandError(
                    f"{self.name}: the shape ({', '.join(declared.axes)}) and dtype of "
                    f"{declared.name!r} do not follow from the other operands; pass the array to "
                    "write to"
                )
            found[declared.name] = (_shape_of(declared, axes), declared.dtypes(working)[0])
        return found

    def working_dtype(self, operands: Sequence[ArrayLike | None]) -> str:
        """Return the working dtype, "" where it does not follow from the operands that are given.

        It is that of the "float" operands; where there is none, that of an "either" operand.
        """
        for kind in ("float", "either"):
            for declared, given in zip(self.operands, operands, strict=True):
                if declared.dtype == kind and given is not None:
                    dtype = dtype_name(given.dtype)
                    if dtype in FLOATS:
                        return dtype
        return ""

    def _match(
        self, operands: Sequence[ArrayLike | None], scalars: Mapping[str, float | int | bool]
    ) -> tuple[dict[str, int | Shape], str]:
        """Check what is given; return the length of each axis and the working dtype, if known."""
        if len(operands) != len(self.operands):
            raise OperandError(
                f"{self.name} takes {len(self.operands)} operands, got {len(operands)}: "
                f"{self.signature()}"
            )
        values = self.bind_scalars(scalars)
        axes: dict[str, int | Shape] = {}
        working = self.working_dtype(operands)
        for declared, given in zip(self.operands, operands, strict=True):
            if given is not None:
                transposed = bool(values.get(declared.transpose))
                _bind_shape(self, declared, tuple(given.shape), transposed, axes)
                _check_dtype(self, declared, dtype_name(given.dtype), working)
        return axes, working

    def bind_scalars(
        self, scalars: Mapping[str, float | int | bool]
    ) -> dict[str, float | int | bool]:
        """Return every scalar with its value, defaults filled in."""
        known = {scalar.name: scalar for scalar in self.scalars}
        for name in scalars:
            if name not in known:
                raise OperandError(f"{self.name} has no scalar {name!r}; it has {sorted(known)}")
        values: dict[str, float | int | bool] = {}
        for name, scalar in known.items():
            value = scalars.get(name, scalar.default)
            if value is None:
                raise OperandError(f"{self.name}: scalar {name!r} must be given")
            values[name] = {"float": float, "int": int, "bool": bool}[scalar.kind](value)
            if not scalar.admits(values[name]):
                raise OperandError(f"{self.name}: scalar {name!r} must be {scalar}, got {value!r}")
        return values


# By the class of the dtype, for dtypes of two libraries may have one hash and refuse comparison.
_names: defaultdict[type, dict[object, str]] = defaultdict(dict)


def dtype_name(dtype: object) -> str:
    """Return the plain name of a dtype of any array library, such as ``"float32"``."""
    known = _names[type(dtype)]
    if dtype not in known:  # NumPy takes three microseconds to tell a dtype's name
        name = getattr(dtype, "name", None)
        known[dtype] = name if isinstance(name, str) else str(dtype).rpartition(".")[2]
    return known[dtype]


def _bind_shape(
    kernel: Kernel,
    operand: Operand,
    shape: Shape,
    transposed: bool,
    axes: dict[str, int | Shape],
) -> None:
    """Match a shape against the operand's named axes, binding those that are new."""
    names = operand.axes
    if transposed:
        names = (*names[:-2], names[-1], names[-2])
    wanted = f"{kernel.name}: operand {operand.name!r} needs shape ({', '.join(names)})"
    lead, rest = names, shape
    if names and names[-1] == "...":
        lead = names[:-1]
        rest, tail = shape[: len(lead)], shape[len(lead) :]
        if axes.setdefault("...", tail) != tail:
            raise OperandError(f"{wanted} with ... = {axes['...']}, got {shape}")
    if len(rest) != len(lead):
        raise OperandError(f"{wanted}, got {shape}")
    for name, length in zip(lead, rest, strict=True):
        if name == "M" and isinstance(bits := axes.get("O"), int):
            axes["M"] = mask_bytes(bits)
        expected = int(name) if name.isdigit() else axes.setdefault(name, length)
        if length != expected:
            raise OperandError(f"{wanted} with {name} = {expected}, got {shape}")
        if name == "K" and length == 0:
            raise OperandError(f"{wanted} with K >= 1, a class or output at least, got {shape}")


def _check_dtype(kernel: Kernel, operand: Operand, dtype: str, working: str) -> None:
    """Check one operand's dtype against the kernel's working dtype, as far as that is known."""
    allowed = operand.dtypes(working)
    if dtype not in allowed:
        raise OperandError(
            f"{kernel.name}: operand {operand.name!r} has dtype {dtype}, needs "
            f"{' or '.join(allowed)}{'; convert it first' if operand.floating else ''}"
        )


def _shape_of(operand: Operand, axes: Mapping[str, int | Shape]) -> Shape:
    """Return the shape of an operand whose axes are all bound."""
    shape: Shape = ()
    for name in operand.axes:
        length = int(name) if name.isdigit() else axes[name]
        shape += length if isinstance(length, tuple) else (length,)
    return shape


def size(shape: Shape) -> int:
    """Return the number of elements of a shape."""
    return math.prod(shape)


def mask_bytes(columns: int) -> int:
    """Return the length of a row of a packed mask: a bit a column, in whole groups of 16 bytes."""
    return 16 * -(-columns // 128)
