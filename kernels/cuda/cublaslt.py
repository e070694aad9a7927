"""Matrix products by cuBLASLt, called past CuPy: CuPy's own calls refuse to be captured in a graph.

The library is column-major, and read so a row-major matrix is its transpose. So c = op(a) op(b) is
asked for as cᵀ = op(b)ᵀ op(a)ᵀ: the library's first matrix is b, its second a, and its result has
``columns`` rows. Operands are addresses, so nothing here needs CuPy; all but :class:`Handle` works
without a GPU. The numbers are those of the enums in cublasLt.h.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from ctypes import (
    byref,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
    sizeof,
)  # fmt: skip
from functools import cache
from typing import Any

from gpubp.errors import DeviceError
from gpubp.kernels.cuda.driver import Epilogue, Gemm

INSTALL = "pip install nvidia-cublas (CUDA 13) or nvidia-cublas-cu12 (CUDA 12)"

_DTYPES = {"float32": 0, "float64": 1, "bfloat16": 14}
_COMPUTE_32F, _COMPUTE_64F, _COMPUTE_TF32 = 68, 70, 77
_INVALID_VALUE, _NOT_SUPPORTED = 7, 15

# Attributes of an operation, of a layout and of a preference.
_TRANSPOSE_A, _TRANSPOSE_B, _EPILOGUE, _BIAS_POINTER, _AUX_POINTER, _AUX_LD = 3, 4, 7, 8, 11, 12
_BATCH_COUNT, _BATCH_STRIDE = 5, 6
_MOST_WORKSPACE, _LEAST_ALIGNMENTS = 1, (5, 6, 7, 8)

# BGRADA sums the library's first matrix, which is b.
_EPILOGUES: dict[Epilogue, int] = {
    "": 1, "bias": 4, "bias_relu": 6, "relu_delta": 136, "relu_delta_bias_grad": 152,
    "bias_grad": 256,
}  # fmt: skip
_AUX = 128  # the bit that has RELU_BIAS write its mask

_MASK_BITS = 128  # the rows of a mask are padded to
_ALIGNMENT = 256  # bytes; more makes no difference to any algorithm


class _Result(ctypes.Structure):
    """An algorithm, as cublasLtMatmulAlgoGetHeuristic returns it."""

    _fields_ = (
        ("algorithm", c_uint64 * 8),
        ("workspace", c_size_t),
        ("state", c_int),
        ("waves", c_float),
        ("reserved", c_int * 4),
    )


@cache
def load() -> ctypes.CDLL:
    """Load the library.

    Raises:
        DeviceError: it is not found.
    """
    library = ctypes.CDLL(_find())
    library.cublasLtGetStatusName.restype = c_char_p
    library.cublasLtGetVersion.restype = c_size_t
    return library


def _find() -> str:
    """Return the path of the library: of NVIDIA's wheels, or a name that the loader knows."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib  # noqa: PLC0415 (comes with CuPy 14)

        return str(load_nvidia_dynamic_lib("cublasLt").abs_path)
    except (ImportError, RuntimeError):  # no pathfinder, or it finds none
        pass
    for name in ("libcublasLt.so.13", "libcublasLt.so.12"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    raise DeviceError(f"cuBLASLt (libcublasLt.so) is not found; {INSTALL}")


def check(status: int, what: str) -> None:
    """Raise DeviceError if a status is not success."""
    if status:
        name = (load().cublasLtGetStatusName(status) or b"unknown status").decode()
        raise DeviceError(f"{what} failed: {name} ({status})")


class _Descriptor:
    """An object of the library's, destroyed with this one."""

    def __init__(self, kind: str, *arguments: Any) -> None:
        library, self.kind, self.pointer = load(), kind, c_void_p()
        create = getattr(library, f"cublasLt{kind}Create")
        check(create(byref(self.pointer), *arguments), f"cublasLt{kind}Create")
        weakref.finalize(self, getattr(library, f"cublasLt{kind}Destroy"), self.pointer)

    def set(self, attribute: int, value: Any) -> None:
        """Set an attribute to a ctypes value, whose type must be the one in cublasLt.h."""
        name = f"cublasLt{self.kind}SetAttribute"
        call = getattr(load(), name)
        check(
            call(self.pointer, attribute, byref(value), c_size_t(sizeof(value))),
            f"{name}({attribute})",
        )


class Description:
    """A product as the library's descriptors say it: the operation and the layouts of a, b, c."""

    def __init__(self, gemm: Gemm) -> None:
        self.gemm = gemm
        self.scale = c_double if gemm.dtype == "float64" else c_float
        self.operation = self._operation()
        self.a = self._layout(gemm.dtype, gemm.rows, gemm.inner, gemm.transpose_a)
        self.b = self._layout(gemm.dtype, gemm.inner, gemm.columns, gemm.transpose_b)
        self.c = self._layout(gemm.out_dtype, gemm.rows, gemm.columns, False)

    def point(self, vector: int, mask: int) -> None:
        """Set the addresses of the bias or its gradient, and of the mask, where there are such."""
        if "bias" in self.gemm.epilogue:
            self.operation.set(_BIAS_POINTER, c_void_p(vector))
        if _has_mask(self.gemm):
            self.operation.set(_AUX_POINTER, c_void_p(mask))

    def _operation(self) -> _Descriptor:
        gemm = self.gemm
        compute = _COMPUTE_TF32 if gemm.tf32 else _COMPUTE_32F
        if gemm.dtype == "float64":
            compute = _COMPUTE_64F
        scale = _DTYPES["float64" if gemm.dtype == "float64" else "float32"]
        operation = _Descriptor("MatmulDesc", compute, scale)
        operation.set(_TRANSPOSE_A, c_int32(gemm.transpose_b))
        operation.set(_TRANSPOSE_B, c_int32(gemm.transpose_a))
        epilogue = _EPILOGUES[gemm.epilogue]
        if _has_mask(gemm):
            epilogue |= _AUX
            bits = -(-gemm.columns // _MASK_BITS) * _MASK_BITS
            operation.set(_AUX_LD, c_int64(bits))
        operation.set(_EPILOGUE, c_uint32(epilogue))
        return operation

    def _layout(self, dtype: str, rows: int, columns: int, transposed: bool) -> _Descriptor:
        if transposed:
            rows, columns = columns, rows
        sizes = c_uint64(columns), c_uint64(rows), c_int64(columns)
        layout = _Descriptor("MatrixLayout", _DTYPES[dtype], *sizes)
        if self.gemm.batch > 1:
            layout.set(_BATCH_COUNT, c_int32(self.gemm.batch))
            layout.set(_BATCH_STRIDE, c_int64(rows * columns))
        return layout


class Handle:
    """cuBLASLt on the device that is current when this is made.

    Args:
        workspace: the bytes that every product made here may have to itself while it runs.

    Raises:
        DeviceError: the library is not found or does not start.
    """

    def __init__(self, workspace: int) -> None:
        self.workspace = workspace
        self.pointer = c_void_p()
        check(load().cublasLtCreate(byref(self.pointer)), "cublasLtCreate")

    def product(self, gemm: Gemm) -> Product | None:
        """Return a product made ready to run, or None where the library has none.

        Raises:
            DeviceError: the library fails.
        """
        if not _is_possible(gemm):
            return None
        product = Product(self, Description(gemm))
        return product if product.algorithm(_ALIGNMENT) else None


class Product:
    """A product of one shape, with the algorithms that the library advises for it."""

    def __init__(self, handle: Handle, description: Description) -> None:
        self._handle = handle
        self._of = description
        self._factors = description.scale(1), description.scale(description.gemm.accumulate)
        self._algorithms: dict[int, _Result | None] = {}
        # Addresses stand in the descriptor and are read when the product is started.
        self._lock = threading.Lock()

    def algorithm(self, alignment: int) -> _Result | None:
        """Return the algorithm for operands aligned to so many bytes, asked for once; or None."""
        if alignment not in self._algorithms:
            self._algorithms[alignment] = self._ask(alignment)
        return self._algorithms[alignment]

    def run(
        self, a: int, b: int, c: int, vector: int, mask: int, workspace: int, stream: int
    ) -> None:
        """Start the product on a stream; operands are addresses, 0 for what it has not.

        Raises:
            DeviceError: the library fails, or has no algorithm for operands that lie so.
        """
        of, (alpha, beta) = self._of, self._factors
        with self._lock:
            alignment = alignment_of(a, b, c, vector, mask)
            found = self.algorithm(alignment)
            if found is None:
                raise DeviceError(
                    f"cuBLASLt has no algorithm for {of.gemm} on operands aligned to {alignment} "
                    f"bytes; align them to {_ALIGNMENT}"
                )
            of.point(vector, mask)
            status = load().cublasLtMatmul(
                self._handle.pointer, of.operation.pointer,
                byref(alpha), c_void_p(b), of.b.pointer, c_void_p(a), of.a.pointer,
                byref(beta), c_void_p(c), of.c.pointer, c_void_p(c), of.c.pointer,
                byref(found), c_void_p(workspace), c_size_t(self._handle.workspace),
                c_void_p(stream),
            )  # fmt: skip
        check(status, f"cublasLtMatmul of {of.gemm}")

    def _ask(self, alignment: int) -> _Result | None:
        of, found, count = self._of, _Result(), c_int()
        preference = _Descriptor("MatmulPreference")
        preference.set(_MOST_WORKSPACE, c_uint64(self._handle.workspace))
        for attribute in _LEAST_ALIGNMENTS:
            preference.set(attribute, c_uint32(alignment))
        of.point(alignment, alignment)  # only how these addresses are aligned is looked at
        status = load().cublasLtMatmulAlgoGetHeuristic(
            self._handle.pointer, of.operation.pointer,
            of.b.pointer, of.a.pointer, of.c.pointer, of.c.pointer,
            preference.pointer, 1, byref(found), byref(count),
        )  # fmt: skip
        # An epilogue that does not go with the types may be called invalid instead.
        if status == _NOT_SUPPORTED or (status == _INVALID_VALUE and of.gemm.epilogue):
            return None
        check(status, f"cublasLtMatmulAlgoGetHeuristic of {of.gemm}")
        return found if count.value and not found.state else None


def alignment_of(*addresses: int) -> int:
    """Return the highest power of 2, up to 256, that divides every address; 0 is left out."""
    union = _ALIGNMENT
    for address in addresses:
        union |= address
    return union & -union


def is_empty(gemm: Gemm) -> bool:
    """Return whether nothing is multiplied: there are no elements, or each sums over nothing."""
    return 0 in (gemm.rows, gemm.inner, gemm.columns, gemm.batch)


def _has_mask(gemm: Gemm) -> bool:
    return gemm.epilogue.startswith("relu_delta") or gemm.masked


def _is_possible(gemm: Gemm) -> bool:
    """Whether to ask for a product at all.

    Not if nothing is to be multiplied, for the library's layouts can't say that; nor for a bias
    gradient that is wider than c, as it is beside a bfloat16 delta: cublasLt.h has it of c's dtype,
    and does not promise that asking for another is refused.
    """
    narrow = gemm.epilogue.endswith("bias_grad") and gemm.out_dtype == "bfloat16"
    return not (is_empty(gemm) or narrow)
