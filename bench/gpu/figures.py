"""Medians, their intervals, and what they say beside floor, target and peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import summary
from gpu.cases import Case
from gpu.contenders import OURS

_RESAMPLES = 2000

Record = dict[str, Any]


def summaries(turns: Sequence[Mapping[str, float]]) -> Record:
    """Return for each kind of time its median, a bootstrap interval of 95 %, and all rounds."""
    return {name: spread([turn[name] for turn in turns]) for name in turns[0]}


def spread(rounds: Sequence[float]) -> Record:
    """Return the median of rounds, its interval, and the rounds."""
    values: NDArray[np.float64] = np.array(rounds)
    chosen = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(np.median(values[chosen], axis=1), (0.025, 0.975))
    return {
        "median": float(np.median(values)), "low": float(low), "high": float(high),
        "rounds": list(rounds),
    }  # fmt: skip


def verdict(case: Case, records: Mapping[str, Record]) -> Record:
    """Return how gpubp's wall time compares with its target and with the best peer of each group.

    The wall is what a user waits for, and the one time that can be had of every library. Whoever
    computes something else is no peer. ``met`` is whether all targets that can be judged are.
    """
    ours = records[OURS]["seconds"]["wall"]
    found: Record = {
        "floor": list(case.floor),
        "target": {"seconds": case.seconds, "reached": ours["median"] <= case.seconds},
        "peers": {},
    }
    for group, limit in case.ratios:
        walls = {
            name: record["seconds"]["wall"]
            for name, record in records.items()
            if record["group"] == group and "seconds" in record and record["right"]
        }
        if walls:
            best = min(walls, key=lambda name: walls[name]["median"])
            found["peers"][group] = {
                "best": best, "limit": limit, **_ratio(ours, walls[best]),
            }  # fmt: skip
    for peer in found["peers"].values():
        peer["reached"] = peer["ratio"] <= peer["limit"]
    judged = [found["target"], *found["peers"].values()]
    return found | {"met": records[OURS]["right"] and all(one["reached"] for one in judged)}


def floor(plan: Record, precision: str, roofs: Record) -> Record:
    """Return a step's floor on the device as measured: its products, and its gaps between nodes.

    The bytes of other calls are left out: those of a small network never leave the cache.
    """
    products = plan["product_flops"] / roofs["gemm"][precision]["flops_per_second"]["median"]
    gaps = plan["nodes"] * roofs["nodes"]["seconds_a_node"]
    return {"products": products, "gaps": gaps, "seconds": products + gaps}


def _ratio(a: Record, b: Record) -> Record:
    """Return the ratio of the medians with its interval; rounds are drawn in pairs."""
    first, second = ({"stats": {"median": x["median"], "data": x["rounds"]}} for x in (a, b))
    return summary.ratio(first, second)
