"""The innermost part of a matrix product, in LLVM's vectors: a tile of c kept in registers.

A tile is some rows by one to three vectors of columns. In each turn of its loop a vector of b is
multiplied with each row's element of a, broadcast, and added on; nothing is stored before the end.
Every element of c is the same chain of multiply-adds in the order of k, whatever tile it lies in,
so that results do not depend on how a matrix is cut into tiles, shares or threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_FEATURES = binding.get_host_cpu_features()

# Bytes of a vector register; and rows of the largest tile, of which three vectors and what they are
# computed from fill the 32 registers of AVX-512, or the 16 of AVX.
REGISTER = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx") else 16
ROWS = 8 if _FEATURES.get("avx512f") else 4
VECTORS = 3

# Where the tiles were found to be faster than BLAS: elsewhere LLVM may have no fused multiply-add,
# and no masks for the edges of a matrix.
SUITED = bool(_FEATURES.get("fma") and _FEATURES.get("avx2"))


FROM_ZERO, FROM_BIAS, FROM_C = range(3)  # what sums start from


class Vectors:
    """Writes LLVM on vectors of one dtype, as wide as a register if ``lanes`` are not given."""

    def __init__(self, context: Any, builder: Any, element: Any, lanes: int = 0) -> None:
        self.builder = builder
        self.element = context.get_value_type(element)
        self.lanes = lanes or REGISTER * 8 // element.bitwidth
        self.kind = ir.VectorType(self.element, self.lanes)
        self.mask_kind = ir.VectorType(I1, self.lanes)
        self.zero = ir.Constant(self.kind, None)
        self.alignment = 2  # bytes: a vector may begin at any element, be it a bfloat16
        letter = "i" if isinstance(element, types.Integer) else "f"
        self._name = f"v{self.lanes}{letter}{element.bitwidth}"

    def splat(self, value: Any) -> Any:
        """Return a vector of one value."""
        kind = ir.VectorType(value.type, self.lanes)
        start = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(start, value, I32(0))
        chosen = ir.Constant(ir.VectorType(I32, self.lanes), None)
        return self.builder.shuffle_vector(first, start, chosen)

    def first(self, count: Any) -> Any:
        """Return the mask of the first ``count`` lanes."""
        numbers = ir.Constant(ir.VectorType(I64, self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", numbers, self.splat(count))

    def place(self, base: Any, index: Any) -> Any:
        """Return the address of a vector that starts at an element."""
        return self.builder.bitcast(self.builder.gep(base, [index]), self.kind.as_pointer())

    def load(self, place: Any) -> Any:
        """Load a vector from any address."""
        return self.builder.load(place, align=self.alignment)

    def store(self, value: Any, place: Any) -> None:
        """Store a vector to any address."""
        self.builder.store(value, place, align=self.alignment)

    def load_masked(self, place: Any, mask: Any) -> Any:
        """Load the lanes of a mask; the others are 0 and their memory is not touched."""
        kinds = [place.type, I32, self.mask_kind, self.kind]
        return self._call(
            "masked.load", ".p0", self.kind, kinds, [place, I32(self.alignment), mask, self.zero]
        )

    def store_masked(self, value: Any, place: Any, mask: Any) -> None:
        """Store the lanes of a mask; the memory of the others is not touched."""
        kinds = [self.kind, place.type, I32, self.mask_kind]
        self._call(
            "masked.store", ".p0", ir.VoidType(), kinds, [value, place, I32(self.alignment), mask]
        )

    def multiply_add(self, x: Any, y: Any, z: Any) -> Any:
        """Return x y + z, rounded once where the processor can."""
        return self._call("fmuladd", "", self.kind, [self.kind] * 3, [x, y, z])

    def _call(self, name: str, suffix: str, result: Any, kinds: list[Any], args: list[Any]) -> Any:
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(result, kinds), f"llvm.{name}.{self._name}{suffix}"
        )
        return self.builder.call(function, args)


def tile(rows: int, vectors: int, kind: type[Vectors] = Vectors) -> Callable[..., None]:
    """Return the function for tiles of one size, of one kind of vectors.

    Its arguments: the tile's first element in ``a``, how far it is from there ``down`` to the next
    row and ``along`` to the next column; the first element in ``c``, and the length of its rows;
    the panel of ``b``, whole vectors wide, and the length of its rows; the length of the sums; how
    many columns are left in c; what sums ``start`` from; ``bias`` for these columns; and ``least``,
    which replaces what is below it.
    """

    @intrinsic
    def function(
        typingctx: Any, a: Any, down: Any, along: Any, c: Any, ldc: Any, b: Any, ldb: Any,
        inner: Any, columns: Any, start: Any, bias: Any, least: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            a, down, along, c, ldc, b, ldb, inner, columns, start, bias, least = args
            vec = kind(context, builder, signature.args[0].dtype)
            lines = [builder.gep(a, [builder.mul(I64(i), down)]) for i in range(rows)]
            across = [I64(v * vec.lanes) for v in range(vectors)]
            masks = [vec.first(builder.sub(columns, offset)) for offset in across]
            # By tile rows and vectors: where the elements of c are.
            places = [
                [vec.place(c, builder.add(builder.mul(I64(i), ldc), offset)) for offset in across]
                for i in range(rows)
            ]
            starts = _starts(vec, start, places, [vec.place(bias, o) for o in across], masks)

            def news(k: Any, sums: list[list[Any]]) -> list[list[Any]]:
                row_of_b = builder.gep(b, [builder.mul(k, ldb)])
                of_b = [vec.load(vec.place(row_of_b, offset)) for offset in across]
                result, there = [], builder.mul(k, along)
                for line, row in zip(lines, sums, strict=True):
                    x = vec.splat(builder.load(builder.gep(line, [there])))
                    pairs = zip(of_b, row, strict=True)
                    result.append([vec.multiply_add(x, y, s) for y, s in pairs])
                return result

            sums = _loop(vec, inner, starts, news)
            floor = vec.splat(least)
            for line, row in zip(places, sums, strict=True):
                for place, value, mask in zip(line, row, masks, strict=True):
                    low = builder.fcmp_ordered("<", value, floor)  # false of NaN, which stays
                    vec.store_masked(builder.select(low, floor, value), place, mask)
            return context.get_dummy_value()

        i, p = types.int64, a
        return types.void(p, i, i, p, i, p, i, i, i, i, p, a.dtype), codegen

    return function


def _starts(
    vec: Vectors, start: Any, places: list[list[Any]], biases: list[Any], masks: list[Any]
) -> list[tuple[Any, list[list[Any]]]]:
    """Branch by what sums start from; return the blocks that come to the loop, with the sums."""
    builder = vec.builder
    loop = builder.append_basic_block("loop")
    choice = builder.switch(start, loop)
    starts = [(builder.block, [[vec.zero] * len(masks)] * len(places))]
    for number, lines in ((FROM_BIAS, [biases] * len(places)), (FROM_C, places)):
        choice.add_case(I64(number), builder.append_basic_block("start"))
        builder.position_at_end(builder.function.blocks[-1])
        values: dict[Any, Any] = {}  # a bias is loaded once for all rows
        for line in lines:
            for place, mask in zip(line, masks, strict=True):
                if place not in values:
                    values[place] = vec.load_masked(place, mask)
        starts.append((builder.block, [[values[place] for place in line] for line in lines]))
        builder.branch(loop)
    builder.position_at_end(loop)
    return starts


def _loop(
    vec: Vectors,
    count: Any,
    starts: list[tuple[Any, list[list[Any]]]],
    news: Callable[[Any, list[list[Any]]], list[list[Any]]],
) -> list[list[Any]]:
    """Write the loop, in the block it is to be, of ``count`` turns, one at least; return sums."""
    builder = vec.builder
    loop = builder.block
    k = builder.phi(I64)
    sums = [[builder.phi(vec.kind) for _ in row] for row in starts[0][1]]
    results = news(k, sums)
    after = builder.add(k, I64(1))
    for block, index, values in [(b, I64(0), v) for b, v in starts] + [(loop, after, results)]:
        k.add_incoming(index, block)
        for phis, row in zip(sums, values, strict=True):
            for phi, value in zip(phis, row, strict=True):
                phi.add_incoming(value, block)
    done = builder.append_basic_block("done")
    builder.cbranch(builder.icmp_signed("<", after, count), loop, done)
    builder.position_at_end(done)
    return results


def flipped(vec: Vectors, square: list[Any]) -> list[Any]:
    """Return as many vectors as they have lanes, transposed."""
    square, lanes, step = list(square), range(vec.lanes), 1
    while step < vec.lanes:  # swap blocks of ``step`` elements across the diagonal
        low = [lane if not lane & step else vec.lanes + lane - step for lane in lanes]
        high = [lane + step if not lane & step else vec.lanes + lane for lane in lanes]
        kind = ir.VectorType(I32, vec.lanes)
        for i in lanes:
            if not i & step:
                x, y = square[i], square[i + step]
                square[i] = vec.builder.shuffle_vector(x, y, ir.Constant(kind, low))
                square[i + step] = vec.builder.shuffle_vector(x, y, ir.Constant(kind, high))
        step *= 2
    return square


@intrinsic
def transpose(
    typingctx: Any, source: Any, length: Any, rows: Any, columns: Any, target: Any, width: Any
) -> Any:
    """Write a square of as many rows and columns as a vector has lanes, transposed.

    ``source`` has rows of ``length``, of which ``rows`` and ``columns`` are there and the others
    are taken for 0; the rows of ``target`` are ``width`` apart.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, length, rows, columns, target, width = args
        vec = Vectors(context, builder, signature.args[0].dtype)
        lanes = range(vec.lanes)
        mask, nothing = vec.first(columns), ir.Constant(vec.mask_kind, None)
        square = []
        for i in lanes:
            there = builder.select(builder.icmp_signed("<", I64(i), rows), mask, nothing)
            square.append(vec.load_masked(vec.place(source, builder.mul(I64(i), length)), there))
        for i, line in enumerate(flipped(vec, square)):
            vec.store(line, vec.place(target, builder.mul(I64(i), width)))
        return context.get_dummy_value()

    i = types.int64
    return types.void(source, i, i, i, source, i), codegen


@intrinsic
def copy(typingctx: Any, source: Any, columns: Any, target: Any) -> Any:
    """Copy a vector of which ``columns`` lanes are there and the others are taken for 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, columns, target = args
        vec = Vectors(context, builder, signature.args[0].dtype)
        value = vec.load_masked(vec.place(source, I64(0)), vec.first(columns))
        vec.store(value, vec.place(target, I64(0)))
        return context.get_dummy_value()

    return types.void(source, types.int64, source), codegen


@intrinsic(prefer_literal=True)
def scratch(typingctx: Any, model: Any, length: Any) -> Any:
    """Return ``length`` (a literal) elements of this thread's stack, aligned for vectors."""
    count = length.literal_value

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.ArrayType(context.get_value_type(signature.args[0].dtype), count)
        with builder.goto_entry_block():
            place = builder.alloca(kind)
            place.align = 64
        return builder.bitcast(place, context.get_value_type(signature.return_type))

    return model(model, length), codegen


@intrinsic
def ahead(typingctx: Any, place: Any, elements: Any) -> Any:
    """Return a pointer moved on by a number of elements."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return place(place, types.int64), codegen
