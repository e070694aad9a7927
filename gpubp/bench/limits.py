"""How far a time is from what the device can do: the roof that binds, and the part of it reached.

Of the times that the operations would take at the rate of the best product, the bytes at that of
the best copy, and the calls at that of calls with nothing to do, the longest binds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gpubp.errors import GpubpError

# A time may be so much shorter than its roof allows before the run fails: roofs are measured, too,
# and a phase is a difference.
SLACK = 1.1

Roof = Mapping[str, Any]


class RoofError(GpubpError):
    """Something was faster than the device can be: units or counts are wrong, or a roof is."""


@dataclass(frozen=True)
class Limit:
    """The least time that something takes, in seconds, and by which roof."""

    bound: str
    seconds: float


def limit(
    roofs: Iterable[Roof], device: str, precision: str, cost: Mapping[str, int | None], size: int
) -> Limit | None:
    """Return what binds; None if no roof is known.

    Args:
        roofs: of any devices.
        device, precision: where and how it is computed.
        cost: "flops", "bytes" and "calls"; None is not counted.
        size: the bytes that it works in: they move at the rate of the cache that holds them.
    """
    here = [roof for roof in roofs if roof["device"] == device]
    least: dict[str, float] = {}
    for roof in here:
        if roof["kind"] == "gemm" and roof["precision"] == precision and cost["flops"]:
            least["compute"] = cost["flops"] / roof["value"]
        if roof["kind"] == "call" and cost["calls"]:
            least["calls"] = cost["calls"] * roof["value"]
    rate = _copy_rate(here, size)
    if rate and cost["bytes"]:
        least["memory"] = cost["bytes"] / rate
    if not least:
        return None
    bound = max(least, key=lambda name: least[name])
    return Limit(bound, least[bound])


def floor(
    roofs: Iterable[Roof], device: str, products: Iterable[float], costs: Mapping[str, Any]
) -> list[float]:
    """Return the floor of a step, which no step is expected to beat, in seconds.

    Its matrix products by a BLAS, and the bytes of all else at the rate of a copy.

    Args:
        roofs: of any devices.
        device: where it is computed.
        products: samples of the seconds that the matrix products take.
        costs: of the step, as phases.py counts them.
    """
    rate = _copy_rate([roof for roof in roofs if roof["device"] == device], costs["set"])
    moved = costs["elementwise"] / rate if rate else 0.0
    return [seconds + moved for seconds in products]


def check(rows: Iterable[Mapping[str, Any]]) -> None:
    """Check that nothing is above its roof.

    Raises:
        RoofError: something is.
    """
    above = [row for row in rows if (row["utilisation"] or 0) > SLACK]
    if above:
        worst = max(above, key=lambda row: row["utilisation"])
        raise RoofError(
            f"{len(above)} times are shorter than the device allows; the {worst['phase']} of "
            f"{worst['network']} at {worst['batch_size']} by {worst['contender']} on "
            f"{worst['device']} is at {worst['utilisation']:.2f} of its {worst['bound']} roof. "
            "Units or counts are wrong, or the machine was busy while its roofs were measured"
        )


def _copy_rate(here: list[Roof], size: int) -> float:
    """Return the best rate of all copies that are not smaller than ``size``.

    The next smaller one counts too: the sizes are powers of four.
    """
    copies = sorted((r["bytes"], r["value"]) for r in here if r["kind"] == "copy")
    smaller = [pair for pair in copies if pair[0] <= size][-1:] or copies[:1]
    if not smaller:
        return 0.0
    return max(float(value) for length, value in copies if length >= smaller[0][0])
