"""Checks a plan before anything runs: contracts, order, aliases, complete gradients."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

from gpubp.errors import OperandError, PlanError
from gpubp.plan.ir import DATA, GRADS, TRANSIENT, Buffer, Call, Plan
from gpubp.plan.memory import Layout, round_up


def verify(plan: Plan, layout: Layout, *, alignment: int = 1) -> None:
    """Check a plan and its memory layout.

    ``alignment`` is that of the parameters in their vector, in elements: what lies between the end
    of one and the start of the next has no gradient.

    Raises:
        PlanError: a call breaks its kernel's contract, reads what was never written, writes where
            another operand of the same call lies without leave, or leaves a part of the gradient
            vector unwritten before the update.
    """
    defined: set[Buffer] = set()
    for index, call in enumerate(plan.calls):
        where = f"call {index}, {call.kernel} ({call.formula or 'no formula'})"
        try:
            call.axes()
        except OperandError as error:
            raise PlanError(f"{where}: {error}") from error
        for buffer in call.reads():
            if buffer.region == TRANSIENT and buffer not in defined:
                raise PlanError(f"{where} reads {buffer}, which nothing has written")
        _verify_aliases(call, layout, where)
        defined.update(call.writes())
    if plan.update:
        _verify_gradients(plan, alignment)
    _verify_lifetimes(plan, layout)


def _verify_aliases(call: Call, layout: Layout, where: str) -> None:
    """Check that an output shares memory with another operand only where the contract says so."""
    pairs = list(zip(call.contract.operands, call.operands, strict=True))
    for declared, output in pairs:
        if output is None or not declared.written:
            continue
        for other_declared, other in pairs:
            if other is None or other_declared is declared or not _overlap(output, other, layout):
                continue
            names = (other_declared.name, declared.name)
            allowed = names in call.contract.inplace or names[::-1] in call.contract.inplace
            if allowed and _start(output, layout) == _start(other, layout):
                continue
            raise PlanError(
                f"{where}: {declared.name} = {output} overlaps {other_declared.name} = {other}"
            )


def _overlap(a: Buffer, b: Buffer, layout: Layout) -> bool:
    """Return whether two buffers share memory."""
    if a == b:
        return True
    if a.region != b.region or (a.region == TRANSIENT and a.dtype != b.dtype):
        return False
    if a.region == DATA:
        return a.name == b.name
    start_a, start_b = _start(a, layout), _start(b, layout)
    return start_a < start_b + b.size and start_b < start_a + a.size


def _start(buffer: Buffer, layout: Layout) -> int:
    """Return where a buffer starts in its arena or vector, in elements."""
    return layout.offsets[buffer] if buffer.region == TRANSIENT else buffer.offset


def _verify_gradients(plan: Plan, alignment: int) -> None:
    """Check that backward writes every element of the gradient vector that the update reads."""
    written = sorted(
        (start, round_up(end, alignment)) for start, end in _spans(plan.backward, writes=True)
    )
    for start, end in _spans(plan.update, writes=False):
        position = start
        for first, last in written:
            if first <= position < last:
                position = last
        if position < end:
            raise PlanError(
                f"the update reads grads[{position}:{end}], which backward never writes"
            )


def _spans(calls: tuple[Call, ...], *, writes: bool) -> Iterator[tuple[int, int]]:
    for call in calls:
        for buffer in call.writes() if writes else call.reads():
            if buffer.region == GRADS:
                yield buffer.offset, buffer.offset + buffer.size


def _verify_lifetimes(plan: Plan, layout: Layout) -> None:
    """Check that no call overwrites a buffer that a later call still reads."""
    intact = _Intact(layout)
    for index, call in enumerate(plan.calls):
        for buffer in call.reads():
            if buffer.region == TRANSIENT and buffer not in intact:
                raise PlanError(
                    f"call {index}, {call.kernel}: {buffer} was overwritten before it is read"
                )
        for output in call.writes():
            if output.region == TRANSIENT:
                intact.write(output)


class _Intact:
    """The transient buffers whose value is whole: no two of them share memory.

    So those of an arena lie one behind the other, and what a write destroys is found by bisection:
    a network of thousands of layers has thousands of buffers, and each is written.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._starts: defaultdict[str, list[int]] = defaultdict(list)  # of each dtype's arena
        self._buffers: defaultdict[str, list[Buffer]] = defaultdict(list)
        self._all: set[Buffer] = set()

    def __contains__(self, buffer: Buffer) -> bool:
        return buffer in self._all

    def write(self, output: Buffer) -> None:
        """Take note that a buffer was written: what shares its memory is lost."""
        starts, buffers = self._starts[output.dtype], self._buffers[output.dtype]
        start = _start(output, self._layout)
        first, last = bisect_left(starts, start), bisect_left(starts, start + output.size)
        if first and starts[first - 1] + buffers[first - 1].size > start:
            first -= 1
        self._all.difference_update(buffers[first:last])
        starts[first:last], buffers[first:last] = [start], [output]
        self._all.add(output)
