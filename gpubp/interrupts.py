"""Ctrl-C that is heard between steps and nowhere else.

Python raises KeyboardInterrupt between any two of its instructions. While threads run compiled code
that could free the memory under them, and between the lines that count an epoch it could lose the
count. So here the signal is only noted; who is running is told to stop after the step under way,
and the interrupt is raised when nothing is half done.

Python gives signals to the main thread alone. In any other thread, and where somebody has switched
the signal off, nothing here does anything.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_Handler = Callable[[int, FrameType | None], object]


class _Noted:
    """Whether Ctrl-C was pressed, and who is to be told."""

    def __init__(self, previous: _Handler) -> None:
        self.previous = previous
        self.pressed = False
        self.stop: Callable[[], None] | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the signal. The second one outside of a run, in a slow callback, counts at once."""
        if self.stop is not None:
            self.stop()
        elif self.pressed:
            self.previous(number, frame)
        self.pressed = True

    def deliver(self) -> None:
        """Do what the signal would have done, usually to raise KeyboardInterrupt."""
        if self.pressed:
            self.pressed = False
            self.previous(signal.SIGINT, None)


_noted: _Noted | None = None  # of the main thread, while somebody defers


@contextmanager
def deferred() -> Iterator[None]:
    """Hold a Ctrl-C back until the end of the block, or of a :func:`stopping` block within."""
    global _noted  # noqa: PLW0603 (there is one SIGINT handler, too)
    previous = signal.getsignal(signal.SIGINT)
    if not _main_thread() or _noted is not None or not callable(previous):
        yield
        return
    mine = _Noted(previous)
    try:
        _noted = mine
        signal.signal(signal.SIGINT, mine.handle)
        yield
    finally:
        _noted = None  # first: once the old handler is back, it may raise before the next line
        signal.signal(signal.SIGINT, previous)
        mine.deliver()


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Run something that ``stop`` ends: call it on Ctrl-C, and let that count after the block."""
    with deferred():
        noted = _noted if _main_thread() else None
        if noted is None:
            yield
            return
        noted.deliver()  # pressed before: nothing has begun
        try:
            noted.stop = stop
            if noted.pressed:  # since the line above the try
                stop()
            yield
        finally:
            noted.stop = None
        noted.deliver()


def _main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
