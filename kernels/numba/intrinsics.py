"""What the compiled kernels need and Numba has no word for, all of it in this one place.

Addresses as arrays, calls through an address, BLAS, a barrier between threads, and the processor's
flush-to-zero mode. Everything here is a few lines of LLVM; nothing here is arithmetic.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from gpubp.kernels.numba.bfloat16 import bfloat16

_X86 = platform.machine().lower() in ("x86_64", "amd64")
I8, I32, I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)


def element(name: str) -> Any:
    """Return the Numba type of a dtype's elements."""
    return {"bool": types.boolean, "bfloat16": bfloat16}.get(name) or getattr(types, name)


@intrinsic(prefer_literal=True)
def pointer(typingctx: Any, address: Any, dtype: Any) -> Any:
    """Return ``address`` (int64) as a pointer to ``dtype`` (a literal name such as "float32")."""
    target = types.CPointer(element(dtype.literal_value))

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return target(address, dtype), codegen


@intrinsic
def data(typingctx: Any, array: Any) -> Any:
    """Return the pointer to an array's first element."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def float_of(typingctx: Any, bits: Any) -> Any:
    """Return the float64 whose bits are the int64 ``bits``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(bits), codegen


@intrinsic
def like(typingctx: Any, value: Any, model: Any) -> Any:
    """Return ``value`` in the dtype of the scalar ``model``: a literal that does not promote it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.cast(builder, args[0], signature.args[0], signature.return_type)

    return model(value, model), codegen


@intrinsic
def select(typingctx: Any, condition: Any, yes: Any, no: Any) -> Any:
    """Return ``yes`` where the condition holds, else ``no``, and never by a branch.

    Of a conditional expression on what was loaded, such as an element of a mask, the compiler may
    make one, and then the loop is scalar.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(args[0], args[1], args[2])

    return yes(types.boolean, yes, yes), codegen


def _layout(real: Any) -> tuple[Any, Any, int]:
    """Return the integer and the LLVM type of a float, and how many bits its fraction has."""
    if real == types.float64:
        return I64, ir.DoubleType(), 52
    return I32, ir.FloatType(), 23


@intrinsic
def power_of_two(typingctx: Any, shifted: Any) -> Any:
    """Return ``2**n``, a normal number, n the integer that the last bits of ``shifted`` hold.

    They do in n + 1.5 · 2**f, f the bits of a fraction.
    """
    word, real, fraction = _layout(shifted)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        n = builder.shl(builder.bitcast(args[0], word), word(fraction))
        one = builder.bitcast(ir.Constant(real, 1.0), word)
        return builder.bitcast(builder.add(n, one), real)

    return shifted(shifted), codegen


@intrinsic
def split_by_two(typingctx: Any, x: Any) -> Any:
    """Return n and f for x = 2**n f, √½ <= f < √2; x must be normal and above 0."""
    word, real, fraction = _layout(x)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], word)
        least = builder.bitcast(ir.Constant(real, 0.5**0.5), word)
        power = builder.and_(builder.sub(bits, least), word(-1 << fraction))
        n = builder.sitofp(builder.ashr(power, word(fraction)), real)
        f = builder.bitcast(builder.sub(bits, power), real)
        return context.make_tuple(builder, signature.return_type, (n, f))

    return types.UniTuple(x, 2)(x), codegen


@intrinsic
def upper_digits(typingctx: Any, x: Any) -> Any:
    """Return x without the lower half of its digits, so that its square is exact."""
    word, real, fraction = _layout(x)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kept = word(-1 << (fraction // 2 + 1))
        return builder.bitcast(builder.and_(builder.bitcast(args[0], word), kept), real)

    return x(x), codegen


@intrinsic
def call(typingctx: Any, address: Any, arguments: Any) -> Any:
    """Call the C function ``void f(int64 *arguments)`` at ``address``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = ir.FunctionType(ir.VoidType(), [args[1].type])
        builder.call(builder.inttoptr(args[0], function.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(types.int64, arguments), codegen


@intrinsic
def _fortran_gemm(
    typingctx: Any, function: Any, trans_a: Any, trans_b: Any, m: Any, n: Any, k: Any,
    a: Any, lda: Any, b: Any, ldb: Any, beta: Any, c: Any, ldc: Any,
) -> Any:  # fmt: skip
    """Call ``sgemm``, ``dgemm`` or ``gemm_bf16bf16f32`` with alpha = 1.

    Sizes go by reference and have 64 bits. A routine of the LP64 interface reads the lower 32,
    which come first; so it makes no difference for which interface MKL was loaded.
    """
    i, f = types.int64, c.dtype

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        float_type = context.get_value_type(f)

        def slot(value: Any, kind: Any = I64) -> Any:
            place = cgutils.alloca_once(builder, kind)
            builder.store(value if value.type == kind else builder.trunc(value, kind), place)
            return place

        function, ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc = args
        places = [
            slot(ta, I8), slot(tb, I8), slot(m), slot(n), slot(k),
            slot(ir.Constant(float_type, 1.0), float_type), a, slot(lda), b, slot(ldb),
            slot(beta, float_type), c, slot(ldc),
        ]  # fmt: skip
        signature_type = ir.FunctionType(ir.VoidType(), [place.type for place in places])
        builder.call(builder.inttoptr(function, signature_type.as_pointer()), places)
        return context.get_dummy_value()

    return types.void(i, i, i, i, i, i, a, i, b, i, f, c, i), codegen


def gemm(
    function: int, a: Any, b: Any, c: Any, transpose_a: bool, transpose_b: bool, accumulate: bool
) -> None:
    """Row-major c = op(a) op(b) (+ c) on arrays, by the Fortran BLAS routine at ``function``."""


@overload(gemm, strict=False)
def _gemm(
    function: int, a: Any, b: Any, c: Any, transpose_a: bool, transpose_b: bool, accumulate: bool
) -> Any:
    return _no_sums if a.dtype == bfloat16 else _by_blas


def _no_sums(
    function: int, a: Any, b: Any, c: Any, transpose_a: bool, transpose_b: bool, accumulate: bool
) -> None:
    """All that is left of bfloat16 where tiles do the rest: sums of nothing."""
    if not accumulate:
        c[:] = 0


def _by_blas(
    function: int, a: Any, b: Any, c: Any, transpose_a: bool, transpose_b: bool, accumulate: bool
) -> None:
    """Take the arrays apart."""
    rows, columns = c.shape
    inner = a.shape[0] if transpose_a else a.shape[1]
    if c.size == 0:
        return
    if inner == 0:  # BLAS refuses leading dimensions of 0
        if not accumulate:
            c[:] = 0
        return
    gemm_of_part(
        function, data(a), data(b), data(c), rows, inner, columns,
        rows if transpose_a else inner, inner if transpose_b else columns, columns,
        transpose_a, transpose_b, accumulate,
    )  # fmt: skip


@njit
def gemm_of_part(
    function: int, a: Any, b: Any, c: Any, rows: int, inner: int, columns: int,
    lda: int, ldb: int, ldc: int, transpose_a: bool, transpose_b: bool, accumulate: bool,
) -> None:  # fmt: skip
    """Row-major c = op(a) op(b) (+ c) on parts of matrices, by pointers and lengths of rows.

    BLAS is column-major, where the same memory is transposed: it is asked for cᵀ = op(b)ᵀ op(a)ᵀ.
    """
    n, t = 78, 84  # the letters N and T
    _fortran_gemm(
        function, t if transpose_b else n, t if transpose_a else n, columns, rows, inner,
        b, ldb, a, lda, 1.0 if accumulate else 0.0, c, ldc,
    )  # fmt: skip


@intrinsic
def atomic_add(typingctx: Any, place: Any, value: Any) -> Any:
    """Add to the int64 behind a pointer, sequentially consistent; return what was there."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", args[0], args[1], "seq_cst")

    return types.int64(place, types.int64), codegen


@intrinsic
def atomic_exchange(typingctx: Any, place: Any, value: Any) -> Any:
    """Set the int64 behind a pointer, sequentially consistent; return what was there."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("xchg", args[0], args[1], "seq_cst")

    return types.int64(place, types.int64), codegen


@intrinsic
def atomic_load(typingctx: Any, place: Any) -> Any:
    """Load the int64 behind a pointer, with acquire ordering."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(args[0], "acquire", 8)

    return types.int64(place), codegen


@intrinsic
def relax(typingctx: Any, yielding: Any, function: Any) -> Any:
    """Wait a moment in a spin loop; where ``yielding``, call ``sched_yield`` at ``function``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if _X86:
            pause = ir.FunctionType(ir.VoidType(), [])
            builder.call(
                cgutils.get_or_insert_function(builder.module, pause, "llvm.x86.sse2.pause"), []
            )
        with builder.if_then(args[0]):
            kind = ir.FunctionType(I32, [])
            builder.call(builder.inttoptr(args[1], kind.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.boolean, types.int64), codegen


@intrinsic
def set_flush_to_zero(typingctx: Any, state: Any) -> Any:
    """Set the thread's SSE control word to ``state``; return the old one. No-op off x86.

    Bits 15 and 6 (0x8040) flush denormal results and inputs to zero. Adam's moments of dead units
    are denormal, and a denormal operand costs a hundred cycles.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if not _X86:
            return args[0]
        place = cgutils.alloca_once(builder, I32)
        argument = builder.bitcast(place, I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [I8.as_pointer()])
        module = builder.module
        builder.call(
            cgutils.get_or_insert_function(module, kind, "llvm.x86.sse.stmxcsr"), [argument]
        )
        old = builder.zext(builder.load(place), I64)
        wanted = builder.select(
            builder.icmp_signed("<", args[0], I64(0)), builder.or_(old, I64(0x8040)), args[0]
        )
        builder.store(builder.trunc(wanted, I32), place)
        builder.call(
            cgutils.get_or_insert_function(module, kind, "llvm.x86.sse.ldmxcsr"), [argument]
        )
        return old

    return types.int64(types.int64), codegen
