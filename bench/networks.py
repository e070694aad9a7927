"""The networks whose training step is raced."""

from __future__ import annotations

from dataclasses import dataclass

from gpubp.bench.cases import Case


@dataclass(frozen=True)
class Raced:
    """A case of the race.

    Args:
        case: the network and its minibatch.
        rounds: turns of each contender.
        target: what gpubp's time may be of the best peer's.
    """

    case: Case
    rounds: int
    target: float


RACED = (
    Raced(Case((32, 64, 64, 2), batch=64, steps=256), rounds=9, target=0.5),
    Raced(Case((64, 128, 10), batch=32, steps=512), rounds=9, target=0.5),
    Raced(Case((784, 256, 128, 10), batch=128, steps=64), rounds=9, target=0.7),
    Raced(Case((1024, 2048, 2048, 10), batch=512, steps=4), rounds=7, target=0.95),
)
