"""Joins neighbouring calls into one pass over memory, where the backend has a kernel for it.

In this order: a bias with its activation, and a delta with its bias gradient; products with what
comes after them (epilogues.py); dropout with the activation beside it; the update with what is done
to the gradient before it (update.py). What another call still reads is still written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gpubp.kernels.spec import KERNELS
from gpubp.plan.epilogues import join_products
from gpubp.plan.ir import Call, Plan
from gpubp.plan.join import Has, Readers, join_neighbours, together
from gpubp.plan.update import join_update

_Rule = Callable[[Call, Call, Readers], Call | None]


def fuse(plan: Plan, has: Has) -> Plan:
    """Return the plan with its calls joined.

    ``has(call)`` says whether the backend has a kernel of its own for a call.
    """
    plan = _joined(plan, _bias_activation, has)
    plan = _joined(plan, _delta_bias_grad, has)
    plan = join_products(plan, has)
    plan = _joined(plan, _activation_dropout, has)
    plan = _joined(plan, _dropout_delta, has)
    return replace(plan, update=join_update(plan.update, has))


def _joined(plan: Plan, rule: _Rule, has: Has) -> Plan:
    """Return the plan with neighbours joined by a rule."""
    readers = Readers(plan.calls)

    def join(first: Call, second: Call) -> Call | None:
        joined = rule(first, second, readers)
        return joined if joined is not None and joined.kernel in KERNELS else None

    return replace(
        plan,
        forward=join_neighbours(plan.forward, join, has),
        backward=join_neighbours(plan.backward, join, has),
    )


def _bias_activation(first: Call, second: Call, readers: Readers) -> Call | None:
    """bias_add(z, b) in place, then f(z): bias_f(z, b)."""
    if first.kernel != "bias_add" or second.contract.family != "activation":
        return None
    z, bias, biased = first.operands
    source, activated = second.operands[0], second.operands[-1]
    if not (z == biased == source):
        return None
    keeps_z = "z" in second.contract.saved  # the fused kernel then leaves z + b in z
    if not keeps_z and not readers.are_only(z, first, second):
        return None
    operands = (z, bias, activated)
    return Call(f"bias_{second.kernel}", operands, second.scalars, together(first, second))


def _delta_bias_grad(first: Call, second: Call, readers: Readers) -> Call | None:
    """f_delta(da, saved) -> dz, then bias_grad(dz): f_delta_bias_grad(da, saved) -> dz, db."""
    if second.kernel != "bias_grad" or not first.kernel.endswith("_delta"):
        return None
    if first.operands[-1] != second.operands[0]:
        return None
    operands = (*first.operands, second.operands[1])
    return Call(f"{first.kernel}_bias_grad", operands, first.scalars, together(first, second))


def _activation_dropout(first: Call, second: Call, readers: Readers) -> Call | None:
    """bias_f(z, b) -> a, then dropout(a) -> y: bias_f_dropout(z, b) -> a, y."""
    if second.kernel != "dropout" or not first.kernel.startswith("bias_"):
        return None
    source, *draw, y = second.operands
    *given, a = first.operands
    if a != source:
        return None
    scalars = first.scalars + second.scalars
    return Call(f"{first.kernel}_dropout", (*given, *draw, a, y), scalars, together(first, second))


def _dropout_delta(first: Call, second: Call, readers: Readers) -> Call | None:
    """dropout_delta(dy) -> da, then f_delta_bias_grad(da, saved): f_dropout_delta_bias_grad."""
    if first.kernel != "dropout_delta" or not second.kernel.endswith("_delta_bias_grad"):
        return None
    dy, *draw, kept = first.operands
    da, saved, *outputs = second.operands
    if da != kept or not readers.are_only(da, second):
        return None
    name = second.kernel.replace("_delta_", "_dropout_delta_")
    scalars = second.scalars + first.scalars
    return Call(name, (dy, saved, *draw, *outputs), scalars, together(first, second))
