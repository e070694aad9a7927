"""What a contender can do."""

from __future__ import annotations

from abc import ABC, abstractmethod

from gpu import cases

Turn = dict[str, float]


class Contender(ABC):
    """A case's network in one library, on the device, from the weights that all start from.

    Args:
        case: its name.
        precision: "fp32", "tf32" or "bf16".
        stand_in: compute on the CPU, on next to nothing: for the script's own test.
    """

    def __init__(self, case: str, precision: str, stand_in: bool) -> None:
        self.case = cases.find(case, tiny=stand_in)
        self.precision = precision
        self.stand_in = stand_in

    @abstractmethod
    def losses(self) -> list[float]:
        """Return losses from the first weights on: those that ``oracle.losses`` returns."""

    @abstractmethod
    def turn(self) -> Turn:
        """Train; return seconds a step or an epoch.

        "wall" is from the start until the host knows that the device is done; "device" is between
        two events around the work; "queued" is until the host was free again. The last two are
        missing where a library does not let them be measured.
        """
