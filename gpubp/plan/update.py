"""Joins the update into one pass over the parameters: penalties, clipping, optimizer, rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gpubp.kernels.spec import KERNELS
from gpubp.plan.ir import Buffer, Call, Number
from gpubp.plan.join import Has, together

# What the optimizer's pass can do before it, in the order in which it does it.
_ORDER = {"l1_penalty": 0, "l2_penalty": 0, "clip_value": 1, "clip_norm": 2}


def join_update(calls: Sequence[Call], has: Has) -> tuple[Call, ...]:
    """Return the update with as much of it in the optimizer's call as its order allows.

    A norm is that of the gradient with its penalties, so before a norm these stay calls.
    """
    start = next((i for i, call in enumerate(calls) if f"{call.kernel}_update" in KERNELS), None)
    if start is None:
        return tuple(calls)
    optimizer, end = _optimizer(calls, start)
    named, scalars = optimizer.named(), dict(optimizer.scalars)
    if end < len(calls) and calls[end].kernel == "round_bfloat16":
        params, rounded = calls[end].operands
        if params == named["params"]:
            named["rounded"] = rounded
            end += 1
    while start and (told := _told(calls[start - 1], calls[start], named["grads"], scalars)):
        start -= 1
        scalars |= told
        named |= {"squares": named.get("squares") or calls[start].named().get("squares")}
    contract = KERNELS[f"{optimizer.kernel}_update"]
    operands = tuple(named.get(operand.name) for operand in contract.operands)
    joined = Call(contract.name, operands, tuple(scalars.items()), together(*calls[start:end]))
    if end - start == 1 or not has(joined):
        return tuple(calls)
    return (*calls[:start], joined, *calls[end:])


def _optimizer(calls: Sequence[Call], start: int) -> tuple[Call, int]:
    """Return the optimizer as one call, and where its calls end.

    AdamW has two that are made one: the weights that decay, and behind them the others.
    """
    first = calls[start]
    grads = first.operands[0]
    if first.kernel != "adamw" or grads is None:
        return first, start + 1
    decaying = replace(first, scalars=(*first.scalars, ("decaying", grads.size)))
    rest = calls[start + 1] if start + 1 < len(calls) else first
    if rest.kernel != "adam" or not set(rest.scalars) <= set(first.scalars):
        return decaying, start + 1
    pairs = zip(first.operands, rest.operands, strict=True)
    return replace(decaying, operands=tuple(_whole(a, b) for a, b in pairs)), start + 2


def _whole(first: Buffer | None, rest: Buffer | None) -> Buffer | None:
    """Return two neighbouring parts of a vector as one buffer, or what both calls share."""
    if first is None or rest is None or first == rest:
        return first
    return replace(first, name=first.region, shape=(first.size + rest.size,))


def _told(
    call: Call, after: Call, grads: Buffer | None, scalars: Mapping[str, Number]
) -> dict[str, Number]:
    """Return the scalars by which the optimizer's pass does what ``call`` does; {} if it can't."""
    rank = _ORDER.get(call.kernel)
    name = call.kernel.removesuffix("_penalty")
    if rank is None or rank > _ORDER.get(after.kernel, rank) or name in scalars:
        return {}
    changed = call.named()["grads"]
    (amount,) = dict(call.scalars).values()
    if rank:
        return {name: amount} if changed == grads else {}
    if changed is None or grads is None or changed.offset != grads.offset:
        return {}
    told = {name: amount, "decaying": changed.size}
    return told if scalars.get("decaying", changed.size) == changed.size else {}
