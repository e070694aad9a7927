"""Joins neighbouring calls into one pass over memory, where the backend has a kernel for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from gpubp.kernels.spec import KERNELS
from gpubp.plan.ir import Buffer, Call, Plan


def fuse(plan: Plan, has: Callable[[str], bool]) -> Plan:
    """Return the plan with bias + activation and delta + bias gradient fused.

    ``has(name)`` says whether the backend has a kernel of its own of that name.
    """
    calls = list(plan.calls)
    backward = len(plan.forward)
    update = backward + len(plan.backward)
    forward = _pairs(calls[:backward], calls, has)
    return replace(
        plan, forward=tuple(forward), backward=tuple(_pairs(calls[backward:update], calls, has))
    )


def _pairs(phase: Sequence[Call], whole: Sequence[Call], has: Callable[[str], bool]) -> list[Call]:
    """Return one phase with every pair of neighbours fused that can be."""
    result: list[Call] = []
    for call in phase:
        fused = None
        if result:
            fused = _bias_activation(result[-1], call, whole) or _delta_bias_grad(result[-1], call)
        if fused is not None and has(fused.kernel):
            result[-1] = fused
        else:
            result.append(call)
    return result


def _bias_activation(first: Call, second: Call, whole: Sequence[Call]) -> Call | None:
    """bias_add(z, b) in place, then f(z): bias_f(z, b)."""
    if first.kernel != "bias_add" or second.contract.family != "activation":
        return None
    z, bias, biased = first.operands
    source, activated = second.operands[0], second.operands[-1]
    if not (z == biased == source) or f"bias_{second.kernel}" not in KERNELS:
        return None
    keeps_z = "z" in second.contract.saved  # the fused kernel then leaves z + b in z
    if not keeps_z and _readers(z, whole) > 2:
        return None
    formula = f"{first.formula}; {second.formula}"
    return Call(f"bias_{second.kernel}", (z, bias, activated), second.scalars, formula)


def _delta_bias_grad(first: Call, second: Call) -> Call | None:
    """f_delta(da, saved) -> dz, then bias_grad(dz): f_delta_bias_grad(da, saved) -> dz, db."""
    if second.kernel != "bias_grad" or not first.kernel.endswith("_delta"):
        return None
    if first.operands[-1] != second.operands[0] or f"{first.kernel}_bias_grad" not in KERNELS:
        return None
    formula = f"{first.formula}; {second.formula}"
    operands = (*first.operands, second.operands[1])
    return Call(f"{first.kernel}_bias_grad", operands, first.scalars, formula)


def _readers(buffer: Buffer | None, calls: Sequence[Call]) -> int:
    return sum(buffer in tuple(call.reads()) for call in calls)
