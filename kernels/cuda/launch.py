"""From a call of a kernel's contract to a launch: the variant, the grid and the argument words.

Every argument is one word of 8 bytes: the operands' addresses in the contract's order (0 for one
that is absent), the lengths of its axes in order of first use, the scalars (a float as the bits of
a float64), and what the kernel's rule adds. common.cuh says the same from the kernels' side.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from gpubp.kernels.contract import Kernel, Shape, dtype_name, size
from gpubp.kernels.cuda.driver import Array, Driver, Epilogue, Gemm, Variant
from gpubp.kernels.spec import kernel as contract

Number = float | int | bool

BLOCK = 256
_ROWS = BLOCK // 32  # a warp a row
_COLUMNS = 32
# Grids are as large as the work, up to what fills any GPU a few times over: every kernel walks on
# in strides of the grid. A chunk of rows is worth a block from some tens of additions a thread on.
_MOST_BLOCKS = 2048
_MOST_PARTIALS = 512
_ROWS_OF_CHUNK = 64
_MOST_CHUNKS = 64

# Kernels that give a row to a warp, and those that run on one thread.
_BY_ROWS = (
    "softmax", "softmax_delta", "log_softmax", "log_softmax_delta", "softmax_cross_entropy",
    "softmax_cross_entropy_dense", "count_correct", "count_correct_dense", "count_correct_binary",
)  # fmt: skip
_SINGLE = ("advance", "rate")

_WIDTHS = {"float64": 8, "int64": 8, "uint64": 8, "float32": 4, "uint32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Place:
    """Where an operand lies, its shape and the name of its dtype."""

    address: int
    shape: Shape
    dtype: str


@dataclass(frozen=True)
class Scratch:
    """Memory for reductions over blocks: float64 partial sums and 4-byte tickets, all 0."""

    partials: int
    tickets: int


@dataclass(frozen=True)
class Launch:
    """All that a launch needs but the compiled function."""

    variant: Variant
    grid: tuple[int, int]
    block: int
    words: tuple[int, ...]


def implements(name: str) -> bool:
    """Return whether there is a CUDA version of a kernel: of all, products being cuBLASLt's."""
    return bool(contract(name))


def is_product(name: str) -> bool:
    """Return whether a kernel is a matrix product, with an epilogue or without."""
    return name.startswith(("matmul", "batched_matmul"))


def launch(
    kernel: Kernel,
    places: Sequence[Place | None],
    scalars: Mapping[str, Number],
    *,
    guard: int = 0,
    scratch: Scratch | None = None,
) -> Launch:
    """Return the launch of a kernel that is no product.

    Args:
        kernel: the contract.
        places: the operands.
        scalars: by name; those left out have their defaults.
        guard: the address of the loss sum that holds updates back when it is not finite, or 0.
        scratch: at least what :func:`scratch_of` says; needed where that is not (0, 0).

    Raises:
        OperandError: operands or scalars break the contract.
    """
    axes = _lengths(kernel, places, scalars)
    words = [0 if place is None else place.address for place in places]
    words += axes.values()
    values = kernel.bind_scalars(scalars)
    words += [
        _bits(values[s.name]) if s.kind == "float" else int(values[s.name]) for s in kernel.scalars
    ]
    if _is_guarded(kernel):
        words.append(guard)
    if _reduces(kernel):
        assert scratch is not None  # whoever launches a reduction has asked scratch_of
        words += [scratch.partials, scratch.tickets]
    block = 32 if kernel.name in _SINGLE else BLOCK
    return Launch(variant(kernel, places), _grid(kernel, places, axes), block, tuple(words))


def scratch_of(
    kernel: Kernel, places: Sequence[Place | None], scalars: Mapping[str, Number]
) -> tuple[int, int]:
    """Return how many partial sums and tickets a launch needs."""
    if is_product(kernel.name) or not _reduces(kernel):
        return 0, 0
    axes = _lengths(kernel, places, scalars)
    across, chunks = _grid(kernel, places, axes)
    return (chunks * axes["O"], across) if _sums_columns(kernel) else (across, 1)


def variant(kernel: Kernel, places: Sequence[Place | None]) -> Variant:
    """Return which instance of a kernel's template computes on operands of these dtypes."""
    given = [
        (o.dtype, place.dtype)
        for o, place in zip(kernel.operands, places, strict=True)
        if place is not None
    ]
    working = [dtype for kind, dtype in given if kind == "float"][:1]
    own = [dtype for kind, dtype in given if kind in ("real", "either")]
    return Variant(kernel.name, kernel.module, (*working, *own))


def gemm(
    kernel: Kernel, shapes: Sequence[tuple[Shape, str] | None], scalars: Mapping[str, Number],
    *, tf32: bool,
) -> Gemm:  # fmt: skip
    """Return the product that a call of a product kernel is; operands as (shape, dtype)."""
    values = kernel.bind_scalars(scalars)
    named = {o.name: shape for o, shape in zip(kernel.operands, shapes, strict=True) if shape}
    (a, dtype), (c, out_dtype) = named["a"], named["c"]
    transpose_a = bool(values["transpose_a"])
    epilogue = kernel.name.partition("matmul")[2].removeprefix("_")
    return Gemm(
        rows=c[-2],
        inner=a[-2] if transpose_a else a[-1],
        columns=c[-1],
        transpose_a=transpose_a,
        transpose_b=bool(values.get("transpose_b", False)),
        dtype=dtype,
        out_dtype=out_dtype,
        tf32=tf32 and dtype == "float32",
        accumulate=bool(values.get("accumulate", False)),
        batch=c[0] if len(c) == 3 else 1,
        epilogue=cast("Epilogue", epilogue),
        masked="mask" in named,
    )


def multiply(
    driver: Driver, product: object, kernel: Kernel, places: Sequence[Place | None]
) -> None:
    """Run a product on operands."""
    at = {
        o.name: 0 if place is None else place.address
        for o, place in zip(kernel.operands, places, strict=True)
    }
    vector = at.get("bias") or at.get("db") or 0
    driver.multiply(product, at["a"], at["b"], at["c"], vector, at.get("mask", 0))


def place_of(driver: Driver, array: Array, dtype: str = "") -> Place:
    """Return the place of a device array; its dtype where the array's own is not its meaning."""
    return Place(driver.address(array), tuple(array.shape), dtype or dtype_name(array.dtype))


def _lengths(
    kernel: Kernel, places: Sequence[Place | None], scalars: Mapping[str, Number]
) -> dict[str, int]:
    """Return the length of every named axis in order of first use; 0 for absent operands'."""
    bound = kernel.bind(places, scalars)
    names = dict.fromkeys(
        axis for operand in kernel.operands for axis in operand.axes if not axis.isdigit()
    )
    found = ((name, bound.get(name, 0)) for name in names)
    return {name: size(length) if isinstance(length, tuple) else length for name, length in found}


def _grid(
    kernel: Kernel, places: Sequence[Place | None], axes: Mapping[str, int]
) -> tuple[int, int]:
    if kernel.name in _SINGLE:
        return 1, 1
    if _sums_columns(kernel):
        chunks = min(_MOST_CHUNKS, _blocks(axes["B"], _ROWS_OF_CHUNK))
        return _blocks(axes["O"], _COLUMNS), chunks
    most = _MOST_PARTIALS if _reduces(kernel) else _MOST_BLOCKS
    if kernel.name in _BY_ROWS:
        return min(most, _blocks(axes["B"], _ROWS)), 1
    # Of a data set only the minibatch is work.
    work = [
        place
        for o, place in zip(kernel.operands, places, strict=True)
        if place is not None and not (kernel.family == "data" and o.axes[0] in ("N", "S"))
    ]
    elements = max(size(place.shape) for place in work)
    width = min(_WIDTHS.get(place.dtype, 8) for place in work)
    return min(most, _blocks(elements, BLOCK * 16 // width)), 1


def _blocks(work: int, share: int) -> int:
    return max(1, -(-work // share))


def _sums_columns(kernel: Kernel) -> bool:
    return kernel.name.endswith("bias_grad")


def _reduces(kernel: Kernel) -> bool:
    return kernel.family in ("loss", "metric") or _sums_columns(kernel)


def _is_guarded(kernel: Kernel) -> bool:
    """Whether a kernel changes what outlives a step."""
    return kernel.family in ("optimizer", "gradient") or kernel.name == "advance"


def _bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])
