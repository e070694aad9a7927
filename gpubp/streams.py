"""Which stream of random numbers is for what, so that no two uses ever draw the same ones.

A Philox counter is (block, stream, step); a stream is a purpose and a number within it.
"""

from collections.abc import Iterable, Iterator

INITIAL_WEIGHTS = 1 << 24  # + number of the layer; step 0
DROPOUT = 2 << 24  # + number of the layer; step = the training step
SHUFFLE = 3 << 24  # step = the epoch
VALIDATION_SPLIT = 4 << 24  # step 0
GRADIENT_CHECK = 5 << 24


def of_layers(purposes: Iterable[int | None]) -> Iterator[int]:
    """Return the stream of each layer, of which the purposes are given; 0 where it draws nothing.

    A layer is numbered among those of its purpose, from 1. So another layer that draws nothing, or
    for another purpose, leaves what a seed means for the layers behind it as it was.
    """
    counts: dict[int, int] = {}
    for purpose in purposes:
        if purpose is None:
            yield 0
        else:
            counts[purpose] = counts.get(purpose, 0) + 1
            yield purpose + counts[purpose]
