"""Where transient buffers lie: by lifetime, so that memory is used again as soon as it is free.

A pure function of the plan. Buffers of one dtype share one arena; an output takes over the memory
of an input where the kernel allows it and the input is not needed afterwards.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpubp.plan.ir import TRANSIENT, Buffer, Call, Plan

ALIGNMENT = 16  # elements: 64 bytes of float32, a cache line and an AVX-512 register
_FEW = 300  # slots of a plan that are placed in both orders


@dataclass(frozen=True)
class Layout:
    """Offsets of the transient buffers in their dtype's arena, and its length, in elements."""

    offsets: Mapping[Buffer, int]
    lengths: Mapping[str, int]


@dataclass
class _Slot:
    """Buffers that take over each other's memory, with the span of calls in which any is alive."""

    buffers: list[Buffer]
    first: int
    last: int
    size: int  # in elements, padded


def round_up(length: int, multiple: int) -> int:
    """Return the least multiple that is not below a length."""
    return -(-length // multiple) * multiple


def lifetimes(calls: Sequence[Call]) -> dict[Buffer, tuple[int, int]]:
    """Return the first and the last call that touches each transient buffer."""
    spans: dict[Buffer, tuple[int, int]] = {}
    for index, call in enumerate(calls):
        for buffer in call.operands:
            if buffer is not None and buffer.region == TRANSIENT:
                spans[buffer] = (spans.get(buffer, (index, index))[0], index)
    return spans


def place(plan: Plan, *, take_over: bool = True, alignment: int = ALIGNMENT) -> Layout:
    """Return the layout of a plan: live buffers never overlap but where a kernel works in place.

    Without ``take_over`` each buffer has memory of its own for as long as it lives. All start at
    multiples of ``alignment`` elements.
    """
    slots = _slots(plan.calls, take_over, alignment)
    # Large slots first: the small ones then fit into the gaps. Of one size the first to be born or
    # the last: now the one takes less, now the other. In a deep network it must be the last, which
    # lives within the next, so that the next need not look below it (see _Arena).
    layouts = [_placed(sorted(slots, key=lambda slot: (-slot.size, -slot.first)))]
    if len(slots) <= _FEW:
        layouts.append(_placed(sorted(slots, key=lambda slot: (-slot.size, slot.first))))
    return min(layouts, key=lambda layout: sum(layout.lengths.values()))


def _placed(slots: Sequence[_Slot]) -> Layout:
    """Return the layout that comes of placing slots in an order."""
    offsets: dict[Buffer, int] = {}
    arenas: dict[str, _Arena] = {}
    for slot in slots:
        arena = arenas.setdefault(slot.buffers[0].dtype, _Arena())
        offsets.update(dict.fromkeys(slot.buffers, arena.take(slot)))
    return Layout(offsets, {dtype: arena.length for dtype, arena in arenas.items()})


class _Shelf:
    """A stretch of an arena, and the spans of calls in which a slot that fills it is alive."""

    def __init__(self, offset: int, end: int) -> None:
        self.offset, self.end = offset, end
        self.spans: list[tuple[int, int]] = []  # in their order; they never overlap

    def is_taken(self, first: int, last: int) -> bool:
        """Return whether a slot is alive on it between two calls."""
        index = bisect_left(self.spans, (last + 1, 0))  # past those that begin by then
        return index > 0 and self.spans[index - 1][1] >= first


class _Arena:
    """The memory of one dtype: places each slot at the lowest offset that is free in its span.

    A network of thousands of layers has slots that live from its forward to its backward pass, one
    within the other, and nothing may be done for each pair of them.
    """

    def __init__(self) -> None:
        self.length = 0
        self._shelves: list[_Shelf] = []  # by offset and end
        self._keys: list[tuple[int, int]] = []
        self._ends: list[int] = []
        self._previous: tuple[_Slot, int] | None = None

    def take(self, slot: _Slot) -> int:
        """Return the lowest offset at which no slot that is alive at the same time lies."""
        found, start = self._lowest(slot)
        for index in range(start, len(self._shelves)):
            shelf = self._shelves[index]
            if shelf.is_taken(slot.first, slot.last):
                if found + slot.size <= shelf.offset:
                    break
                found = max(found, shelf.end)
        self._put(slot, found)
        return found

    def _lowest(self, slot: _Slot) -> tuple[int, int]:
        """Return an offset below which there is no room, and the shelf from which to look on.

        Whoever lives at least as long as the slot before and is as large finds no room below it.
        """
        if self._previous is not None:
            before, offset = self._previous
            longer = slot.first <= before.first and before.last <= slot.last
            if longer and slot.size == before.size:
                index = bisect_left(self._keys, (offset, 0))
                if max(self._ends[:index], default=0) <= offset:
                    return offset, index
        return 0, 0

    def _put(self, slot: _Slot, offset: int) -> None:
        key = (offset, offset + slot.size)
        index = bisect_left(self._keys, key)
        if index == len(self._keys) or self._keys[index] != key:
            self._keys.insert(index, key)
            self._ends.insert(index, key[1])
            self._shelves.insert(index, _Shelf(*key))
        insort(self._shelves[index].spans, (slot.first, slot.last))
        self.length = max(self.length, key[1])
        self._previous = slot, offset


def _slots(calls: Sequence[Call], take_over: bool, alignment: int) -> list[_Slot]:
    """Group buffers by take-over: an output joins the slot of an input that dies in that call."""
    spans = lifetimes(calls)
    slot_of: dict[Buffer, _Slot] = {}

    def slot_for(buffer: Buffer) -> _Slot:
        return _Slot([buffer], *spans[buffer], round_up(max(1, buffer.size), alignment))

    for index, call in enumerate(calls):
        named = call.named()
        for output in call.writes():
            if output.region != TRANSIENT or output in slot_of:
                continue
            slot = None
            if take_over:
                slot = _taken_over(call, named, output, index, spans, slot_of)
            if slot is None:
                slot_of[output] = slot_for(output)
            else:
                slot.buffers.append(output)
                slot.last = spans[output][1]
                slot_of[output] = slot
    for buffer in spans.keys() - slot_of.keys():  # read but never written: the verifier says so
        slot_of[buffer] = slot_for(buffer)
    return list({id(slot): slot for slot in slot_of.values()}.values())


def _taken_over(
    call: Call,
    named: Mapping[str, Buffer | None],
    output: Buffer,
    index: int,
    spans: Mapping[Buffer, tuple[int, int]],
    slot_of: Mapping[Buffer, _Slot],
) -> _Slot | None:
    """Return the slot that ``output`` may take over in this call, if there is one."""
    for source_name, output_name in call.contract.inplace:
        source = named[source_name]
        if (
            named[output_name] == output
            and source is not None
            and source in slot_of
            and call.operands.count(source) == 1  # else it is also read where it may not change
            and slot_of[source].last == index == spans[source][1]
            and source.dtype == output.dtype
            and source.size == output.size
        ):
            return slot_of[source]
    return None
