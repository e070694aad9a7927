"""cuBLASLt with its multiplication done by NumPy, as cublasLt.h describes it.

Descriptors, layouts and preferences are the library's own, which needs no GPU for them. They are
read back through the library, so what is tested is what it was told; operands are addresses in
host memory, column-major.
"""

import ctypes

import numpy as np
from host_cuda.products import decode, encode

DTYPES = {0: "float32", 1: "float64", 14: "bfloat16"}
WIDTHS = {"float32": 4, "float64": 8, "bfloat16": 2}

# Bits of the epilogues, as cublasLt.h composes them.
RELU, BIAS, DRELU, BGRAD, AUX, BGRADA = 2, 4, 8, 16, 128, 256


class CublasLtOnHost:
    """Stands for the loaded library.

    ``status``, ``count`` and ``state`` are what the search for an algorithm returns; what it was
    asked for stays in ``asked``, and the scratch and stream of products in ``ran``.
    """

    def __init__(self, library):
        self._library = library
        self.status, self.count, self.state = 0, 1, 0
        self.asked, self.ran = [], []

    def __getattr__(self, name):
        return getattr(self._library, name)

    def cublasLtCreate(self, handle):
        return 0

    def cublasLtMatmulAlgoGetHeuristic(
        self, handle, operation, a, b, c, d, preference, most, result, count
    ):
        self.asked.append(
            {
                "workspace": self._preference(preference, 1, ctypes.c_uint64),
                "alignments": [
                    self._preference(preference, i, ctypes.c_uint32) for i in range(5, 9)
                ],
                "bias": self._operation(operation, 8, ctypes.c_uint64),
                "mask": self._operation(operation, 11, ctypes.c_uint64),
            }
        )
        count._obj.value, result._obj.state = self.count, self.state
        return self.status

    def cublasLtMatmul(
        self, handle, operation, alpha, a, a_layout, b, b_layout, beta, c, c_layout, d, d_layout,
        algorithm, workspace, workspace_size, stream,
    ):  # fmt: skip
        self.ran.append((workspace.value, workspace_size.value, stream.value))
        scale = DTYPES[self._operation(operation, 1)]
        kind = {"float32": ctypes.c_float, "float64": ctypes.c_double}[scale]
        assert isinstance(alpha._obj, kind)
        assert isinstance(beta._obj, kind)
        left, right = self._values(a, a_layout), self._values(b, b_layout)
        left = left.mT if self._operation(operation, 3) else left
        right = right.mT if self._operation(operation, 4) else right
        out = alpha._obj.value * (left @ right)
        if beta._obj.value:
            out += beta._obj.value * self._values(c, c_layout)
        _, dtype = result = self._matrix(d, d_layout)
        out = self._epilogue(operation, out, left, dtype)
        result[0][...] = encode(out, dtype)
        return 0

    def _epilogue(self, operation, out, left, dtype):
        epilogue = self._operation(operation, 7)
        rows = out.shape[-2]
        vector = self._array(self._operation(operation, 8, ctypes.c_uint64), rows, dtype)
        if epilogue & BIAS:
            out = out + decode(vector, dtype)[:, None]
        if epilogue & (RELU | DRELU):
            kept = out > 0
            if epilogue & AUX:
                bits = self._bits(operation, out.shape)
                if epilogue & RELU:
                    packed = np.packbits(kept, axis=0, bitorder="little")
                    bits[: len(packed)] = packed
                else:
                    kept = np.unpackbits(bits, axis=0, count=rows, bitorder="little")
            out = np.where(kept, out, 0)
        if epilogue & (BGRAD | BGRADA):
            summed = left if epilogue & BGRADA else out
            vector[...] = encode(summed.sum(axis=-1), dtype)
        return out

    def _bits(self, operation, shape):
        """Return the mask's bytes, a column of them for each column of the result."""
        ld = self._operation(operation, 12, ctypes.c_int64)
        assert ld % 128 == 0
        assert ld >= shape[0]
        address = self._operation(operation, 11, ctypes.c_uint64)
        flat = np.frombuffer(
            (ctypes.c_uint8 * (shape[1] * ld // 8)).from_address(address), np.uint8
        )
        return flat.reshape(shape[1], ld // 8).T

    def _values(self, address, layout):
        return decode(*self._matrix(address, layout)).astype(np.float64)

    def _matrix(self, address, layout):
        """Return a matrix, or a stack of them, as a view of memory, and its dtype."""
        dtype = DTYPES[self._layout(layout, 0, ctypes.c_uint32)]
        rows, columns = (self._layout(layout, i, ctypes.c_uint64) for i in (2, 3))
        ld, stride = (self._layout(layout, i, ctypes.c_int64) for i in (4, 6))
        batch = self._layout(layout, 5, ctypes.c_int32)
        assert ld >= rows
        flat = self._array(address.value, (batch - 1) * stride + ld * columns, dtype)
        width = WIDTHS[dtype]
        shape, strides = (rows, columns), (width, ld * width)
        if batch > 1:
            shape, strides = (batch, *shape), (stride * width, *strides)
        return np.lib.stride_tricks.as_strided(flat, shape, strides), dtype

    @staticmethod
    def _array(address, length, dtype):
        if not address:
            return None
        memory = (ctypes.c_uint8 * (length * WIDTHS[dtype])).from_address(address)
        return np.frombuffer(memory, "uint16" if dtype == "bfloat16" else dtype)

    def _operation(self, descriptor, attribute, kind=ctypes.c_int32):
        return self._get("MatmulDesc", descriptor, attribute, kind)

    def _layout(self, descriptor, attribute, kind):
        return self._get("MatrixLayout", descriptor, attribute, kind)

    def _preference(self, descriptor, attribute, kind):
        return self._get("MatmulPreference", descriptor, attribute, kind)

    def _get(self, what, descriptor, attribute, kind):
        value, written = kind(), ctypes.c_size_t()
        status = getattr(self._library, f"cublasLt{what}GetAttribute")(
            descriptor, attribute, ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value)),
            ctypes.byref(written),
        )  # fmt: skip
        assert status == 0, (what, attribute, status)
        return value.value
