"""What a plan is made of: buffers, calls and the three phases, all frozen and without arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain, repeat

from gpubp.kernels.bfloat16 import Form
from gpubp.kernels.contract import Kernel, Shape, size
from gpubp.kernels.spec import kernel as contract

Number = float | int | bool

# Flat vectors that outlive a step, and what is in them. The optimizer's state ("m", "v",
# "velocity") are further vectors of the same length as "params".
PARAMS, GRADS = "params", "grads"
ROUNDED = "rounded"  # bfloat16: the parameters as a network of that dtype multiplies with them
COUNTERS = "counters"  # int64: row, step, start, seed
# float64 and int64 that a run adds to and somebody reads, each share of the minibatch in its slot
SUMS, COUNTS = "sums", "counts"
PARTIALS = "partials"  # float64: a reduction over parameters, one element a thread that shares it
DATA = "data"  # arrays of the user's, bound by name, of a length known only then
TRANSIENT = "transient"  # lives within a step; placed by lifetime

ANY = -1  # a length that is known when the data are bound


@dataclass(frozen=True, slots=True)
class Buffer:
    """A named array of a plan.

    ``offset`` counts elements from the start of the region; for a transient buffer it is given by
    the memory plan instead.
    """

    name: str
    shape: Shape
    dtype: str
    region: str
    offset: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return size(self.shape)

    def __str__(self) -> str:
        lengths = ",".join("N" if length == ANY else str(length) for length in self.shape)
        return f"{self.name}[{lengths}]"


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel on some buffers; ``formula`` says what it computes in the network's own names."""

    kernel: str
    operands: tuple[Buffer | None, ...]
    scalars: tuple[tuple[str, Number], ...] = ()
    formula: str = ""

    @property
    def contract(self) -> Kernel:
        """The kernel's contract."""
        return contract(self.kernel)

    def reads(self) -> Iterator[Buffer]:
        """Yield the buffers whose old value counts."""
        for declared, buffer in zip(self.contract.operands, self.operands, strict=True):
            if buffer is not None and (
                declared.mode in ("read", "accumulate")
                or (declared.mode == "update" and self._accumulates)
            ):
                yield buffer

    @property
    def _accumulates(self) -> bool:
        """Whether the old value of an operand that is updated counts.

        A product has c as "update", and looks at its old value only when told to accumulate.
        """
        known = {scalar.name: scalar.default for scalar in self.contract.scalars}
        known.update(self.scalars)
        return bool(known.get("accumulate", True))

    def writes(self) -> Iterator[Buffer]:
        """Yield the buffers that change."""
        for declared, buffer in zip(self.contract.operands, self.operands, strict=True):
            if buffer is not None and declared.written:
                yield buffer

    def axes(self) -> dict[str, int | Shape]:
        """Check operands and scalars against the contract; return the length of each axis.

        Raises:
            OperandError: as :meth:`gpubp.kernels.contract.Kernel.bind`.
        """
        forms = tuple(None if b is None else (b.shape, b.dtype) for b in self.operands)
        return dict(_axes(self.kernel, forms, self.scalars))

    def named(self) -> dict[str, Buffer | None]:
        """Return the operands by their names in the contract."""
        names = (operand.name for operand in self.contract.operands)
        return dict(zip(names, self.operands, strict=True))

    @property
    def flops(self) -> int:
        """Floating-point operations: 2 B I O of a product, else one an element written."""
        named = self.named()
        a, c = named.get("a"), named.get("c")
        if self.contract.family == "matrix" and a is not None and c is not None:
            inner = a.shape[-2] if dict(self.scalars).get("transpose_a") else a.shape[-1]
            return 2 * c.size * inner
        return sum(buffer.size for buffer in self.writes())

    @property
    def bytes(self) -> int:
        """Bytes read and written; of the data only the minibatch counts."""
        moved = (*self.reads(), *self.writes())
        return sum(b.size * WIDTHS[b.dtype] for b in moved if ANY not in b.shape)


@lru_cache(maxsize=1024)
def _axes(
    kernel: str,
    forms: tuple[tuple[Shape, str] | None, ...],
    scalars: tuple[tuple[str, Number], ...],
) -> dict[str, int | Shape]:
    """Return the axes of all calls with operands of these shapes and dtypes: layers are alike."""
    operands = [None if form is None else Form(*form) for form in forms]
    return contract(kernel).bind(operands, dict(scalars))


WIDTHS = {
    "float32": 4, "float64": 8, "bfloat16": 2, "int64": 8, "uint32": 4, "uint8": 1, "bool": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """One step of a network for one batch shape: forward, backward and update, in order.

    ``update`` may read only what forward and backward wrote for the whole minibatch; a plan
    without it (evaluation, prediction) leaves parameters alone. ``loss`` is where the loss of the
    run is added up; a step whose loss is not finite ends the run before its update.
    """

    title: str
    rows: int
    dtype: str
    forward: tuple[Call, ...]
    backward: tuple[Call, ...] = ()
    update: tuple[Call, ...] = ()
    loss: Buffer | None = None

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """All calls in the order in which they run."""
        return self.forward + self.backward + self.update

    @cached_property
    def buffers(self) -> tuple[Buffer, ...]:
        """Every buffer once, in order of first use."""
        seen = dict.fromkeys(
            buffer for call in self.calls for buffer in call.operands if buffer is not None
        )
        return tuple(seen)

    @property
    def flops(self) -> int:
        """Floating-point operations of a step."""
        return sum(call.flops for call in self.calls)

    def data(self) -> Mapping[str, Buffer]:
        """Return the buffers that must be bound to arrays before a run, by name."""
        return {buffer.name: buffer for buffer in self.buffers if buffer.region == DATA}

    def __str__(self) -> str:
        return describe(self)


def describe(plan: Plan, head: str = "", remarks: Sequence[str] = ()) -> str:
    """Return a plan as text: one line a call, its formula first, then kernel, operands and cost.

    ``head`` is a line to stand above them; ``remarks`` are added to the calls, one each.
    """
    lines = [
        f"{plan.title}: {plan.rows} rows, {plan.dtype}, {plan.flops:,} floating-point operations"
    ]
    lines += [head] if head else []
    width = max((len(call.formula) for call in plan.calls), default=0)
    ends = chain((f"   {remark}" if remark else "" for remark in remarks), repeat(""))
    for phase in ("forward", "backward", "update"):
        calls: tuple[Call, ...] = getattr(plan, phase)
        if calls:
            lines += ["", phase]
        for call in calls:
            lines.append(f"  {call.formula:<{width}}   {_call_text(call)}{next(ends)}")
    return "\n".join(lines)


def _call_text(call: Call) -> str:
    """Return a call as ``kernel(what it reads, scalars) -> what it writes``."""
    defaults = {scalar.name: scalar.default for scalar in call.contract.scalars}
    given = [str(buffer) for buffer in call.reads()]
    for name, value in call.scalars:
        if value != defaults[name]:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            given.append(name if value is True else f"{name}={text}")
    return f"{call.kernel}({', '.join(given)}) -> {', '.join(map(str, call.writes()))}"
