"""The short words in which the table of kernels is written, and the table that they fill."""

from __future__ import annotations

from gpubp.kernels.contract import Kernel, Operand, Scalar

KERNELS: dict[str, Kernel] = {}

BISHOP = "Bishop 2006, Pattern Recognition and Machine Learning"
PHILOX = "Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3"
SRIVASTAVA = "Srivastava et al. 2014, Dropout; counter-based numbers: " + PHILOX


def add(
    family: str,
    name: str,
    operands: list[Operand],
    formula: str,
    *scalars: Scalar,
    inplace: tuple[tuple[str, str], ...] = (),
    saved: tuple[str, ...] = (),
    source: str = "",
) -> None:
    """Enter a kernel in the table."""
    KERNELS[name] = Kernel(
        name, family, tuple(operands), formula, tuple(scalars), inplace, saved, source
    )


def reads(
    name: str, axes: str, dtype: str = "float", *, optional: bool = False, transpose: str = ""
) -> Operand:
    """Return an operand that is only read."""
    return Operand(name, tuple(axes.split()), dtype, "read", optional, transpose)


def overwrites(name: str, axes: str, dtype: str = "float", *, optional: bool = False) -> Operand:
    """Return an output whose old contents are never looked at."""
    return Operand(name, tuple(axes.split()), dtype, "overwrite", optional)


def accumulates(name: str, axes: str, dtype: str = "float") -> Operand:
    """Return an output that is added to."""
    return Operand(name, tuple(axes.split()), dtype, "accumulate")


def updates(name: str, axes: str, dtype: str = "float") -> Operand:
    """Return an operand that is read and written."""
    return Operand(name, tuple(axes.split()), dtype, "update")


# What a dropout mask is made of, in the kernels of two families.
KEY = (reads("seed", "1", "int64"), reads("step", "1", "int64"))
STREAM = Scalar("stream", "int")
DROPOUT = (
    Scalar("rate", "float", least=0, below=1),
    STREAM,
    Scalar("first", "int", 0, least=0),
)
KEEP = (
    "keep_i = bits[first + i] >= rate · 2³², bits as random_bits(seed, step, stream), elements in "
    "C order"
)
