"""Where transient buffers lie: by lifetime, so that memory is used again as soon as it is free.

A pure function of the plan. Buffers of one dtype share one arena; an output takes over the memory
of an input where the kernel allows it and the input is not needed afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpubp.plan.ir import TRANSIENT, Buffer, Call, Plan

ALIGNMENT = 16  # elements: 64 bytes of float32, a cache line and an AVX-512 register


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

    def overlaps(self, other: _Slot) -> bool:
        return self.first <= other.last and other.first <= self.last


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
    offsets: dict[Buffer, int] = {}
    lengths: dict[str, int] = {}
    placed: list[tuple[_Slot, int]] = []
    # Large slots first: the small ones then fit into the gaps.
    for slot in sorted(slots, key=lambda slot: (-slot.size, slot.first)):
        dtype = slot.buffers[0].dtype
        neighbours = sorted(
            (offset, offset + other.size)
            for other, offset in placed
            if other.buffers[0].dtype == dtype and other.overlaps(slot)
        )
        offset = 0
        for start, end in neighbours:
            if offset + slot.size <= start:
                break
            offset = max(offset, end)
        placed.append((slot, offset))
        lengths[dtype] = max(lengths.get(dtype, 0), offset + slot.size)
        offsets.update(dict.fromkeys(slot.buffers, offset))
    return Layout(offsets, lengths)


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
