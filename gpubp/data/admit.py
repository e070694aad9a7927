"""Arrays of any library, and data frames of numbers, as arrays that the checks can read.

An array in host memory becomes NumPy's, on the same memory, whatever library it is of: what NumPy
promises of dtypes and layout then holds of it, where a library may promise less. (JAX without x64
leaves int32 where int64 is asked for.) An array on a GPU stays there. A data frame or a series is
copied into one array, because its columns lie apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpubp.errors import InputError

if TYPE_CHECKING:
    from gpubp.backends.base import Backend

_CUDA, _CUDA_MANAGED = 2, 13  # DLPack's device types
_NARROW = ("torch.float16", "torch.bfloat16")


def admit(array: Any, backend: Backend, name: str) -> Any:
    """Return an array of any library as NumPy's, or as the backend's if it lies on a GPU.

    What is no array comes back as it is: the other checks will say what it is instead.

    Raises:
        InputError: it lies on a GPU and the backend computes on the CPU, its library won't hand it
            over, or a data frame holds something else than numbers.
        DeviceError: it lies on another GPU than the backend's.
    """
    if isinstance(array, np.ndarray):
        return array
    if library(array) == "dask":
        raise InputError(
            f"{name} is a dask array, whose values are computed when they are asked for; pass "
            f"{name}.compute()"
        )
    if callable(getattr(array, "to_numpy", None)):
        return _of_frame(array, name)
    if not hasattr(array, "__dlpack__") and not hasattr(array, "__cuda_array_interface__"):
        return array
    if library(array) == "torch" and hasattr(array, "layout"):
        _check_tensor(array, name)
    try:
        adopted = backend.adopt(array)
        if backend.holds(adopted):
            return adopted
        if on_gpu(adopted):
            raise _elsewhere(array, name)
        return np.asarray(adopted)
    except (BufferError, TypeError) as error:
        raise InputError(
            f"{name} can't be taken over from {library(array)}: {error}; pass np.asarray({name})"
        ) from error


def on_gpu(array: Any) -> bool:
    """Return whether an array lies on a GPU."""
    if hasattr(array, "__dlpack_device__"):
        return int(array.__dlpack_device__()[0]) in (_CUDA, _CUDA_MANAGED)
    return hasattr(array, "__cuda_array_interface__")


def library(array: Any) -> str:
    """Return the name of the library that an array is of."""
    name = type(array).__module__.partition(".")[0]
    return "jax" if name == "jaxlib" else name


def _of_frame(frame: Any, name: str) -> Any:
    """Return the numbers of a data frame (N, K) or a series (N,)."""
    array = np.asarray(frame.to_numpy())
    if array.dtype.kind in "biuf":
        return array
    kind = type(frame).__name__
    columns = [(column, frame[column].dtype) for column in getattr(frame, "columns", ())]
    odd = [f"{column!r} ({dtype})" for column, dtype in columns if not _is_number(dtype)]
    which = f" in column {', '.join(odd[:3])}{', …' * (len(odd) > 3)}" if odd else ""
    raise InputError(
        f"{name} is a {kind} that holds something else than numbers{which}: texts, dates or "
        "missing values; encode or fill them first, which gpubp train does for a table in a file"
    )


def _is_number(dtype: Any) -> bool:
    """Return whether a column's dtype is one of NumPy's for numbers, or of that name."""
    text = str(dtype).lower()
    return getattr(dtype, "kind", "") in ("b", "i", "u", "f") or text.startswith(
        ("int", "uint", "float", "bool")
    )


def _check_tensor(tensor: Any, name: str) -> None:
    """Refuse the tensors of PyTorch that have no values that NumPy could read."""
    if tensor.requires_grad:
        raise InputError(f"{name} is a tensor that requires a gradient; pass {name}.detach()")
    if str(tensor.layout) != "torch.strided":
        raise InputError(f"{name} is a sparse tensor; pass {name}.to_dense()")
    if tensor.device.type == "meta":
        raise InputError(f"{name} is a tensor on the device 'meta', which holds no values")
    if str(tensor.dtype) in _NARROW:
        raise InputError(
            f"{name} has dtype {str(tensor.dtype).removeprefix('torch.')}, but needs float32, "
            f"float64, an integer or bool; pass {name}.float()"
        )


def _elsewhere(array: Any, name: str) -> InputError:
    """Return the error for an array on a GPU where the CPU computes."""
    copy = {
        "cupy": f"cupy.asnumpy({name})",
        "torch": f"{name}.cpu().numpy()",
        "numba": f"{name}.copy_to_host()",
    }.get(library(array), f"np.asarray({name})")
    return InputError(
        f"{name} is a {library(array)} array on a GPU, but this trainer computes on the CPU; make "
        f"it with device='cuda', or pass {copy}"
    )
