"""The eager door to the kernels: arrays in, arrays out, one function for every contract.

The functions are made from the table in ``gpubp.kernels.spec``; ``help(ops.relu)`` gives formula,
shapes, dtypes and source. What was read is passed in the contract's order, scalars by keyword, and
what was written is returned: one array, or a tuple where there are several (a loss gives
``(loss, dz)``). Operands that a kernel updates, such as an optimizer's parameters, are passed
too and are changed in place.

The arrays' own library decides where a kernel runs. NumPy arrays have a choice of backend::

    ops.relu(z)                         # the reference kernels, in NumPy
    ops.relu(z, backend="numba")        # this call
    ops.use_backend("numba")            # from now on
    with ops.use_backend("numba"): ...  # in this block

CuPy arrays run the CUDA kernels on their own device and the current stream, without waiting for
them, and with ``backend="reference"`` the reference kernels in CuPy. Arrays of any other library of
the array-API standard (PyTorch, array-api-strict, ...) run the reference kernels where they are. A
result that is not finite is returned as it is, without a NumPy warning, so that all backends behave
alike. Labels and rows are checked to be within bounds for NumPy arrays; for others that would mean
to wait for a GPU.

Kernels work in the dtype of their arrays: float32, float64 or, where the library has it, bfloat16.
What is summed beside bfloat16 (a bias gradient, say) is float32.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar, Token
from functools import cache
from numbers import Integral, Real
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from array_api_compat import (
    array_namespace,
    device,
    is_cupy_namespace,
    is_numpy_namespace,
    is_writeable_array,
)

from gpubp.errors import OperandError, unknown_name
from gpubp.kernels import reference
from gpubp.kernels.contract import Kernel, Operand, dtype_name
from gpubp.kernels.spec import KERNELS

Scalars = Mapping[str, float | int | bool]

_BACKENDS = ("numpy", "numba", "reference")
_chosen: ContextVar[str] = ContextVar("backend of gpubp.ops", default="numpy")

if TYPE_CHECKING:

    def __getattr__(name: str) -> Callable[..., Any]: ...


def __dir__() -> list[str]:
    return sorted(["use_backend", *KERNELS])


class use_backend:
    """Choose the backend: from now on or, after ``with``, for the block.

    "numpy" and "numba" are a choice for NumPy arrays; "reference" has the reference kernels run on
    CuPy arrays too. The choice belongs to the current thread or task, as that of
    ``numpy.errstate`` does.

    Raises:
        InputError: there is no such backend.
    """

    def __init__(self, name: Literal["numpy", "numba", "reference"]) -> None:
        self._token: Token[str] = _chosen.set(_known(name))

    def __enter__(self) -> None:
        """Enter the block; the choice already holds."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Go back to the choice of before."""
        _chosen.reset(self._token)


def _known(backend: str) -> str:
    if backend not in _BACKENDS:
        raise unknown_name("backend", backend, _BACKENDS)
    return backend


def _returned(kernel: Kernel) -> tuple[Operand, ...]:
    """Return the operands that a call makes, or takes as ``out``, and gives back.

    They are those whose old contents do not count, and the sums, which start at 0. The product of
    matrices is one of them, although ``accumulate`` makes its old contents count.
    """
    accumulates = any(scalar.name == "accumulate" for scalar in kernel.scalars)
    return tuple(o for o in kernel.outputs if o.mode != "update" or accumulates)


def _make(kernel: Kernel) -> Callable[..., Any]:
    """Return the eager function of a kernel."""
    returned = _returned(kernel)
    signature = _signature(kernel, returned)

    def op(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        backend = given.pop("backend", None)
        scalars = kernel.bind_scalars(
            {s.name: given.pop(s.name) for s in kernel.scalars if s.name in given}
        )
        if returned:
            given |= _named_outputs(kernel, returned, given.pop("out", None))
        operands = [given.get(operand.name) for operand in kernel.operands]
        if scalars.get("accumulate") and operands[-1] is None:
            raise OperandError(f"{kernel.name}: accumulate=True adds to an array; pass it as out")
        if scalars.get("clip_norm") and given.get("squares") is None:
            raise OperandError(f"{kernel.name}: clip_norm divides by a norm; pass its squares")
        xp = _namespace(kernel, operands)
        _complete(kernel, operands, scalars, xp)
        _check_memory(kernel, operands, xp)
        _run(kernel, operands, scalars, xp, backend)
        results = tuple(operands[kernel.operands.index(operand)] for operand in returned)
        return results[0] if len(results) == 1 else results or None

    op.__name__ = op.__qualname__ = kernel.name
    op.__doc__ = _doc(kernel, returned)
    op.__signature__ = signature  # type: ignore[attr-defined]
    return op


def _named_outputs(kernel: Kernel, returned: Sequence[Operand], out: Any) -> dict[str, Any]:
    """Return the arrays given as ``out`` by the names of their operands."""
    if out is None:
        return {}
    outs = (out,) if len(returned) == 1 else out
    if not isinstance(outs, tuple) or len(outs) != len(returned):
        names = ", ".join(operand.name for operand in returned)
        raise OperandError(
            f"{kernel.name}: out must be a tuple of arrays or None for ({names}), "
            f"got {type(out).__name__}"
        )
    return {operand.name: array for operand, array in zip(returned, outs, strict=True)}


def _complete(kernel: Kernel, operands: list[Any], scalars: Scalars, xp: Any) -> None:
    """Put arrays in place of numbers and of outputs that were left out; check all of it."""
    place = next(device(o) for o in operands if o is not None and not isinstance(o, Real))
    for i, declared in enumerate(kernel.operands):
        value = operands[i]
        if not isinstance(value, Real):
            continue
        exact = isinstance(value, Integral) or declared.dtype == "float64"
        if declared.axes != ("1",) or declared.written or not exact:
            raise OperandError(
                f"{kernel.name}: operand {declared.name!r} is the number {value!r}; needed is "
                f"{_describe(declared)}"
            )
        operands[i] = xp.asarray([value], dtype=getattr(xp, declared.dtype), device=place)
    missing = kernel.infer(operands, scalars)
    for i, declared in enumerate(kernel.operands):
        if declared.name in missing:
            shape, dtype = missing[declared.name]
            make = xp.zeros if declared.mode == "accumulate" else xp.empty
            operands[i] = make(shape, dtype=_dtype(kernel, dtype, operands, xp), device=place)
    kernel.bind(operands, scalars)


def _dtype(kernel: Kernel, name: str, operands: Sequence[Any], xp: Any) -> Any:
    """Return a dtype by name: NumPy knows bfloat16 only from arrays that have it."""
    known = (x.dtype for x in operands if x is not None and dtype_name(x.dtype) == name)
    dtype = getattr(xp, name, None) or next(known, None)
    if dtype is None:
        raise OperandError(
            f"{kernel.name}: {xp.__name__} has no dtype {name} to make the output of; pass an "
            "array of it as out"
        )
    return dtype


def _namespace(kernel: Kernel, operands: Sequence[Any]) -> Any:
    """Return the library of the arrays."""
    for declared, value in zip(kernel.operands, operands, strict=True):
        if isinstance(value, np.ma.MaskedArray):
            raise OperandError(
                f"{kernel.name}: operand {declared.name!r} is a masked array, whose mask would be "
                "lost; fill it (.filled(value)), or leave elements out by the operand mask where "
                "the kernel has one"
            )
    try:
        return array_namespace(*operands)
    except TypeError:
        kinds = ", ".join(
            f"{declared.name}: {type(value).__module__}.{type(value).__name__}"
            for declared, value in zip(kernel.operands, operands, strict=True)
            if value is not None
        )
        raise OperandError(
            f"{kernel.name} needs arrays, all of one library, got {kinds or 'none'}; "
            "convert them first, such as with numpy.asarray"
        ) from None


def _check_memory(kernel: Kernel, operands: Sequence[Any], xp: Any) -> None:
    """Refuse to write to a read-only array, or over an operand where the contract forbids it.

    Libraries that cannot tell whether two arrays overlap are trusted unless it is the same object.
    """
    overlap = getattr(xp, "shares_memory", lambda a, b: a is b)
    for written, target in zip(kernel.operands, operands, strict=True):
        if not written.written or target is None:
            continue
        if not is_writeable_array(target):
            if isinstance(target, np.ndarray):
                raise OperandError(f"{kernel.name}: {written.name!r} is read-only; pass a copy")
            raise OperandError(
                f"{kernel.name} writes to its outputs, and {written.name!r} would be an array of "
                f"{xp.__name__}, none of which can be written to; pass numpy.asarray of each"
            )
        for other, array in zip(kernel.operands, operands, strict=True):
            if other is written or array is None:
                continue
            if (other.name, written.name) in kernel.inplace and _same_memory(array, target):
                continue
            if array is target or overlap(array, target):
                allowed = ", ".join(f"{a} and {b}" for a, b in kernel.inplace) or "none"
                raise OperandError(
                    f"{kernel.name}: {written.name!r} overlaps {other.name!r} in memory; operands "
                    f"that may be the same array: {allowed}. Pass another array"
                )


def _same_memory(a: Any, b: Any) -> bool:
    """Whether two arrays are the same elements in the same places, as far as they tell."""
    for protocol in ("__array_interface__", "__cuda_array_interface__"):
        if hasattr(a, protocol):
            return bool(getattr(a, protocol) == getattr(b, protocol))
    return a is b


def _check_indices(kernel: Kernel, operands: Sequence[Any], scalars: Scalars) -> None:
    """Refuse indices out of bounds: a compiled kernel would read and write outside its arrays."""
    named = {o.name: x for o, x in zip(kernel.operands, operands, strict=True) if x is not None}
    for name, values, limit in _indices(named, int(scalars.get("first", 0))):
        outside = values[(values < 0) | (values >= limit)]
        if outside.size:
            raise OperandError(
                f"{kernel.name}: {name} {outside[0]} is out of bounds, needed is 0 to {limit - 1}"
            )


def _indices(named: Mapping[str, Any], first: int) -> Iterator[tuple[str, Any, int]]:
    """Yield what a kernel uses as an index: its name, the values and the number of places."""
    if "labels" in named:
        labels, mask = named["labels"], named.get("mask")
        yield "label", labels if mask is None else labels[mask], named["z"].shape[1]
    if "permutation" in named:
        yield "permutation", named["permutation"], named["source"].shape[0]
    if "row" in named and "x" in named:
        rows = next(named[name] for name in ("permutation", "source", "out") if name in named)
        yield "row", named["row"] + first + np.arange(named["x"].shape[0]), rows.shape[0]
    if "rates" in named:
        yield "step - start", named["step"] - named["start"], named["rates"].shape[0]


def _run(
    kernel: Kernel, operands: list[Any], scalars: Scalars, xp: Any, backend: str | None
) -> None:
    """Run the kernel where its arrays are, or on the backend chosen for NumPy arrays."""
    choice = _chosen.get() if backend is None else _known(backend)
    if is_numpy_namespace(xp):
        _check_indices(kernel, operands, scalars)
        if choice == "numba":
            from gpubp.kernels.numba import eager, entry  # noqa: PLC0415 (imports Numba)

            if entry.implements(kernel.name):
                eager.run(kernel.name, operands, scalars)
                return
    elif backend not in (None, "reference"):
        raise OperandError(
            f"{kernel.name}: backend={backend!r} chooses for NumPy arrays; arrays of "
            f"{xp.__name__} run on their own library"
        )
    elif is_cupy_namespace(xp) and choice != "reference":
        _run_cuda(kernel, operands, scalars)
        return
    with np.errstate(all="ignore"):
        reference.function(kernel.name)(*operands, **scalars)


def _run_cuda(kernel: Kernel, operands: list[Any], scalars: Scalars) -> None:
    """Run the CUDA kernel on CuPy arrays, or the reference where there is none."""
    from gpubp.kernels.cuda import eager, launch  # noqa: PLC0415 (only where there is CuPy)

    driver = _driver(next(x.device.id for x in operands if x is not None))
    with driver.active():
        if launch.implements(kernel.name):
            eager.run(driver, kernel.name, operands, scalars)
        else:
            reference.function(kernel.name)(*operands, **scalars)


@cache
def _driver(index: int) -> Any:
    """Return the driver of a device, which keeps its compiled kernels."""
    from gpubp.kernels.cuda.cupy_driver import CupyDriver  # noqa: PLC0415 (imports CuPy)

    return CupyDriver(index)


def _signature(kernel: Kernel, returned: Sequence[Operand]) -> inspect.Signature:
    parameter = inspect.Parameter
    keyword = parameter.KEYWORD_ONLY
    given = [operand for operand in kernel.operands if operand not in returned]
    required = max(i for i, operand in enumerate(given) if not operand.optional)
    # An optional operand among those that must be given can't have a place of its own in the row.
    parameters = [
        parameter(
            operand.name,
            keyword if operand.optional and i < required else parameter.POSITIONAL_OR_KEYWORD,
            default=None if operand.optional else parameter.empty,
        )
        for i, operand in enumerate(given)
    ]
    parameters.sort(key=lambda parameter: parameter.kind)
    parameters += [
        parameter(s.name, keyword, default=parameter.empty if s.default is None else s.default)
        for s in kernel.scalars
    ]
    if returned:
        parameters.append(parameter("out", keyword, default=None))
    return inspect.Signature([*parameters, parameter("backend", keyword, default=None)])


def _doc(kernel: Kernel, returned: Sequence[Operand]) -> str:
    items = [_describe(operand) for operand in kernel.operands if operand not in returned]
    items += [
        f"{s.name}: {s.kind}, {'required' if s.default is None else f'{s.default} by default'}."
        for s in kernel.scalars
    ]
    if returned:
        names = ", ".join(operand.name for operand in returned)
        form = "the array" if len(returned) == 1 else "a tuple of the arrays (or None)"
        made = ", ".join(operand.name for operand in returned if not operand.optional)
        items.append(
            f"out: {form} to write {names} to{f'; made if not given: {made}' if made else ''}."
        )
    items.append('backend: "numpy", "numba" or "reference"; see use_backend.')
    lines = [*textwrap.wrap(f"{kernel.formula}.", 92), "", "Args:", *_indented(items)]
    results = [_describe(operand, returned=True) for operand in returned]
    lines += ["", "Returns:", *_indented(results or ["None."])]
    if kernel.inplace:
        pairs = ", ".join(f"{a} and {b}" for a, b in kernel.inplace)
        lines += ["", f"May be the same array: {pairs}."]
    raised = "OperandError: a wrong shape, dtype, library, scalar or memory, or a masked array."
    lines += ["", "Raises:", f"    {raised}"]
    if kernel.source:
        lines += ["", *textwrap.wrap(f"Source: {kernel.source}.", 92)]
    return "\n".join(lines)


def _indented(items: Sequence[str]) -> list[str]:
    return [
        line
        for item in items
        for line in textwrap.wrap(item, 92, initial_indent=4 * " ", subsequent_indent=8 * " ")
    ]


def _describe(operand: Operand, returned: bool = False) -> str:
    dtype = {
        "float": "float32, float64 or bfloat16",
        "wide": "float32 or float64, float32 beside bfloat16",
        "either": "float32, float64 or bfloat16, also float32 beside that",
        "real": "any real dtype",
    }.get(operand.dtype, operand.dtype)
    text = f"{operand.name}: shape ({', '.join(operand.axes)}), {dtype}"
    if operand.transpose:
        text += f", the last two axes swapped if {operand.transpose}"
    if operand.optional:
        text += ", or None"
    if operand.axes == ("1",) and operand.mode == "read":
        text += "; or a number"
    if operand.mode == "accumulate":
        text += "; added to what is there, 0 if made"
    if operand.mode == "update":
        text += "; added to if accumulate" if returned else "; updated in place"
    return text + "."


globals().update({name: _make(kernel) for name, kernel in KERNELS.items()})
