"""Joins products with what is done to their result before it is written.

Forward: a product with its bias and, if that is next, ReLU. Backward: a product with the delta of
ReLU and the bias gradient. For that delta the forward product leaves a mask, a bit an element, to
be read in place of the activation; it is in the plan only where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gpubp.kernels.contract import mask_bytes
from gpubp.plan.ir import TRANSIENT, Buffer, Call, Plan
from gpubp.plan.join import Has, Readers, join_neighbours, together


def join_products(plan: Plan, has: Has) -> Plan:
    """Return the plan with products joined with what comes after them."""
    readers = Readers(plan.calls)
    forward = join_neighbours(plan.forward, lambda p, call: _biased(p, call, readers), has)
    plan = _with_deltas(replace(plan, forward=forward), has)
    return replace(plan, backward=join_neighbours(plan.backward, _bias_grad, has))


def _biased(product: Call, call: Call, readers: Readers) -> Call | None:
    """matmul(a, b) -> z, then bias_add(z) in place or bias_relu(z): one call."""
    if not _plain(product) or call.kernel not in ("bias_add", "bias_relu"):
        return None
    a, b, z = product.operands
    source, bias, c = call.operands
    if source != z:
        return None
    formula = together(product, call)
    if call.kernel == "bias_add":
        return Call("matmul_bias", (a, b, bias, c), product.scalars, formula) if c == z else None
    if not readers.are_only(z, call):
        return None
    return Call("matmul_bias_relu", (a, b, bias, c, None), product.scalars, formula)


def _with_deltas(plan: Plan, has: Has) -> Plan:
    """Return the plan with products joined with the delta of ReLU after them."""
    readers = Readers(plan.calls)
    products = [call for call in plan.forward if call.kernel == "matmul_bias_relu"]
    masked = {product: _masked(product) for product in products if has(_masked(product))}
    masks = {product.operands[3]: product.operands[4] for product in masked.values()}
    backward: list[Call] = []
    for call in plan.backward:
        joined = _delta(backward[-1], call, readers, masks, has) if backward else ()
        if joined:
            backward.pop()
        backward += joined or (call,)
    used = {call.named().get("mask") for call in backward}
    masked = {product: made for product, made in masked.items() if made.operands[4] in used}
    forward = tuple(masked.get(call, call) for call in plan.forward)
    return replace(plan, forward=forward, backward=tuple(backward))


def _masked(product: Call) -> Call:
    """Return a product with ReLU that also leaves its mask."""
    *given, a, _ = product.operands
    assert a is not None  # not optional in the contract
    rows, columns = a.shape
    mask = Buffer(f"{a.name}_mask", (rows, mask_bytes(columns)), "uint8", TRANSIENT)
    return replace(product, operands=(*given, a, mask))


def _delta(
    product: Call,
    delta: Call,
    readers: Readers,
    masks: Mapping[Buffer | None, Buffer | None],
    has: Has,
) -> tuple[Call, ...]:
    """matmul -> da, then relu_delta(da, a), with bias_grad or without: what takes their place.

    Where the library has no product with both, the bias gradient is left to the next product.
    """
    if not _plain(product) or delta.kernel not in ("relu_delta", "relu_delta_bias_grad"):
        return ()
    da, a, dz, *db = delta.operands
    if da != product.operands[2] or a not in masks or not readers.are_only(da, delta):
        return ()
    operands = (*product.operands[:2], masks[a], dz)
    formula = together(product, delta)
    whole = Call(f"matmul_{delta.kernel}", (*operands, *db), product.scalars, formula)
    if has(whole):
        return (whole,)
    formula, _, gradient = formula.rpartition("; ")
    part = Call("matmul_relu_delta", operands, product.scalars, formula)
    return (part, Call("bias_grad", (dz, *db), (), gradient)) if db and has(part) else ()


def _bias_grad(gradient: Call, product: Call) -> Call | None:
    """bias_grad(dz) -> db, then matmul(x, dz) -> dW: matmul_bias_grad(x, dz) -> dW, db."""
    if not _plain(product) or gradient.kernel != "bias_grad":
        return None
    dz, db = gradient.operands
    a, b, c = product.operands
    scalars = dict(product.scalars)
    if b != dz or scalars.pop("transpose_b", False):
        return None
    formula = together(gradient, product)
    return Call("matmul_bias_grad", (a, b, c, db), tuple(scalars.items()), formula)


def _plain(call: Call) -> bool:
    """Whether a call is a product that does not accumulate."""
    return call.kernel == "matmul" and "accumulate" not in dict(call.scalars)
