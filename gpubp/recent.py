"""A table of what was made lately: what has not been used for the longest time goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Key = tuple[object, ...]


class Recent(OrderedDict[Key, T]):
    """Values by key, of which the latest stay.

    Args:
        size: how large a value is.
        least: how many values stay however large they are.
        most: how many stay however small.
        room: the sum of sizes up to which those between stay.
    """

    def __init__(self, size: Callable[[T], int], *, least: int, most: int, room: int) -> None:
        super().__init__()
        self._size, self._least, self._most, self._room = size, least, most, room

    def get_or_make(self, key: Key, make: Callable[[], T]) -> T:
        """Return the value of a key, made if it is not there."""
        if key in self:
            self.move_to_end(key)
            return self[key]
        value = self[key] = make()
        while len(self) > self._most or (len(self) > self._least and self._total() > self._room):
            self.popitem(last=False)
        return value

    def _total(self) -> int:
        return sum(self._size(value) for value in self.values())
