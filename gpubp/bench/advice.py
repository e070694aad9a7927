"""Advice out of a document: which device from which batch size on, and what is left to gain."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from gpubp.bench.contenders import OURS

Row = Mapping[str, Any]
_NAMES = {"cpu": "the CPU", "cuda": "the GPU"}


def recommend(document: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each network and precision."""
    steps = [row for row in document["rows"] if row["phase"] == "step"]
    keys = dict.fromkeys((row["network"], row["precision"]) for row in steps)
    return [
        _sentence(network, precision, [r for r in steps if r["network"] == network], several)
        for several in [len({precision for _, precision in keys}) > 1]
        for network, precision in keys
    ]


def crossovers(slow: Mapping[int, float], fast: Mapping[int, float]) -> Iterator[float]:
    """Yield the batch sizes at which two devices' times a step are equal, from small to large.

    Between measured sizes both are taken to follow a power law, so the ratio does.
    """
    sizes = sorted(slow.keys() & fast.keys())
    logs = [math.log(slow[size] / fast[size]) for size in sizes]
    for (size, next_size), (log, next_log) in zip(pairwise(sizes), pairwise(logs), strict=True):
        if log * next_log < 0:
            yield size * (next_size / size) ** (log / (log - next_log))


def _sentence(network: str, precision: str, rows: Sequence[Row], several: bool) -> str:
    here = [row for row in rows if row["precision"] == precision]
    ours = [row for row in here if row["contender"].startswith(OURS)]
    found = sorted({row["device"] for row in ours})
    start = f"For {network}" + (f" in {precision}" if several else "")
    if len(found) > 1:
        return f"{start} use {_devices(ours, found)}."
    return f"{start} {_settings(ours, here)}."


def _devices(ours: Sequence[Row], found: Sequence[str]) -> str:
    """Say which of two devices to use from which batch size on."""
    first, second = (
        {
            row["batch_size"]: row["median"]
            for row in ours
            if row["device"] == device and row["contender"] == OURS
        }
        for device in found[:2]
    )
    names = [_NAMES.get(device, device) for device in found[:2]]
    sizes = sorted(first.keys() & second.keys())
    winner = 0 if first[sizes[0]] <= second[sizes[0]] else 1
    crossed = [round(size) for size in crossovers(first, second)]
    if not crossed:
        ratio = first[sizes[-1]] / second[sizes[-1]]
        times = max(ratio, 1 / ratio)
        return (
            f"{names[winner]} at every batch size from {sizes[0]} to {sizes[-1]}: at the last it "
            f"is {times:.1f} times as fast as {names[1 - winner]}"
        )
    text = f"{names[winner]} below batch {crossed[0]} and {names[1 - winner]} above"
    if len(crossed) > 1:
        text += f" (they cross again at {', '.join(map(str, crossed[1:]))})"
    return text


def _settings(ours: Sequence[Row], here: Sequence[Row]) -> str:
    """Say which setting is best on the one device, how far it is from the roof and from peers."""
    device = _NAMES.get(ours[0]["device"], ours[0]["device"])
    usual = [row for row in ours if row["contender"] == OURS]
    rates = {row["batch_size"]: row["batch_size"] / row["median"] for row in usual}
    most = max(rates, key=lambda size: rates[size])
    text = f"use {device}; it trains fastest at batch {most}, {rates[most]:,.0f} rows a second"
    row = next(row for row in usual if row["batch_size"] == most)
    if row["utilisation"]:
        text += f", {row['utilisation']:.0%} of what its {row['bound']} roof allows"
    better = [
        (other["median"] / row["median"], other["contender"], row["batch_size"])
        for row in usual
        for other in here
        if other["batch_size"] == row["batch_size"]
        and other["contender"].startswith(OURS)
        and other["interval"][1] < row["interval"][0]
    ]
    if better:
        ratio, name, size = min(better)
        text += f"; {name.removeprefix(OURS + ', ')} takes {ratio:.2f} of the time at batch {size}"
    return text
