"""Ratios of medians out of pytest-benchmark's list of results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Benchmark = Mapping[str, Any]
_RESAMPLES = 2000


def summarize(benchmarks: Iterable[Benchmark]) -> list[dict[str, Any]]:
    """Return for each group who is ours, the best peer and the floor, and how gpubp compares.

    "to_peer" and "to_floor" are ratios of medians with bootstrap intervals of 95 %; below 1
    gpubp is the faster one. Of several settings of a peer, or of the floor, the fastest counts.
    What did not run is not there.
    """
    groups: dict[str, list[Benchmark]] = {}
    for benchmark in benchmarks:
        groups.setdefault(benchmark["group"], []).append(benchmark)
    rows = []
    for name, group in groups.items():
        ours, peer, floor = (_fastest(group, role) for role in ("ours", "peer", "floor"))
        row: dict[str, Any] = {"group": name}
        if ours is not None:
            aims = {key: ours["extra_info"].get(key) for key in ("target", "limit_seconds")}
            row |= {"ours": ours["extra_info"]["contender"], **aims}
        for key, other in (("peer", peer), ("floor", floor)):
            if other is not None:
                row[key] = other["extra_info"]["contender"]
                if ours is not None:
                    row[f"to_{key}"] = ratio(ours, other)
        rows.append(row)
    return rows


def ratio(a: Benchmark, b: Benchmark) -> dict[str, float]:
    """Return the ratio of the medians, and its interval where the rounds were kept.

    Rounds are drawn in pairs, because what disturbs the machine disturbs neighbours alike.
    """
    result = {"ratio": _median(a) / _median(b)}
    rounds = [benchmark["stats"].get("data", []) for benchmark in (a, b)]
    if len(rounds[0]) == len(rounds[1]) > 1:
        pairs = np.array(rounds)
        chosen = np.random.default_rng(0).integers(0, pairs.shape[1], (_RESAMPLES, pairs.shape[1]))
        medians: NDArray[np.float64] = np.median(pairs[:, chosen], axis=2)
        low, high = np.quantile(medians[0] / medians[1], (0.025, 0.975))
        result |= {"low": float(low), "high": float(high)}
    return result


def _median(benchmark: Benchmark) -> float:
    return float(benchmark["stats"]["median"])


def _fastest(group: Iterable[Benchmark], role: str) -> Benchmark | None:
    """Return the fastest of a role; of ours the one that users get, whatever is faster."""
    members = [b for b in group if b["extra_info"].get("role") == role]
    if role == "ours":
        members = [b for b in members if b["extra_info"].get("default")]
    return min(members, key=_median, default=None)
