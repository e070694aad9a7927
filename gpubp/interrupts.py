"""Ctrl-C and SIGTERM that are heard between steps and nowhere else.

Python raises KeyboardInterrupt between any two of its instructions. While threads run compiled code
that could free the memory under them, between the lines that count an epoch it could lose the
count, and in the middle of a compilation it is lost itself. So here the signal is only noted; who
is running is told to stop after the step under way, and the interrupt is raised when nothing is
half done.

SIGTERM is treated alike where a Python function handles it, as in the command (:func:`stoppable`);
elsewhere it ends the process at once.

Python gives signals to the main thread alone. In any other thread, and where somebody has switched
a signal off, nothing here does anything.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

_Handler = Callable[[int, FrameType | None], object]

# In the order in which handlers are put and put back: the one that is most likely to raise is last.
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_USUAL = (signal.SIG_DFL, signal.default_int_handler)  # handlers that a process begins with


class Terminated(KeyboardInterrupt):
    """SIGTERM: what ends on Ctrl-C ends by this, too."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the command.

    A KeyboardInterrupt proper that passes code which was compiled from text, such as that of a
    named tuple, has Python end ``python -m gpubp`` by SIGINT at last, whoever caught it.
    """


class _Noted:
    """Which signal came, if one did, and who is to be told."""

    def __init__(self, previous: Mapping[int, _Handler]) -> None:
        self.previous = previous
        self.pressed: int | None = None
        self.stop: Callable[[], None] | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Note the signal. The second one outside of a run, in a slow callback, counts at once."""
        if _noted is not self:  # it came while the old handlers were put back
            self.previous[number](number, frame)
            return
        if self.stop is not None:
            self.stop()
        elif self.pressed is not None:
            self.previous[number](number, frame)
        self.pressed = number

    def deliver(self) -> None:
        """Do what the signal would have done, usually to raise KeyboardInterrupt."""
        if self.pressed is not None:
            number, self.pressed = self.pressed, None
            self.previous[number](number, None)


_noted: _Noted | None = None  # of the main thread, while somebody defers
_raised: list[KeyboardInterrupt] = []  # in a command


@contextmanager
def deferred() -> Iterator[None]:
    """Hold signals back until :func:`hear`, or the end of a :func:`stopping` block or of this."""
    global _noted  # noqa: PLW0603 (there is one handler of a signal, too)
    _raise_again()
    if _noted is not None or not _main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    previous = {int(n): handler for n, handler in handlers.items() if callable(handler)}
    if not previous:
        yield
        return
    mine = _Noted(previous)
    try:
        _noted = mine
        for number in previous:
            signal.signal(number, mine.handle)
        yield
    finally:
        _noted = None  # first: once an old handler is back, it may raise before the next line
        for number, handler in previous.items():
            signal.signal(number, handler)
        mine.deliver()


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Run something that ``stop`` ends: call it on a signal, and let that count after the block."""
    with deferred():
        noted = _noted if _main_thread() else None
        if noted is None:
            yield
            return
        noted.deliver()  # pressed before: nothing has begun
        try:
            noted.stop = stop
            if noted.pressed is not None:  # since the line above the try
                stop()
            yield
        finally:
            noted.stop = None
        noted.deliver()


def hear() -> None:
    """Let a signal count that was held back: where nothing is half done, before what takes long.

    In a :func:`stopping` block nothing happens; that has an end of its own.
    """
    _raise_again()
    noted = _noted if _main_thread() else None
    if noted is not None and noted.stop is None:
        noted.deliver()


@contextmanager
def stoppable() -> Iterator[list[KeyboardInterrupt]]:
    """Have SIGTERM and Ctrl-C raise :class:`Terminated` and :class:`Interrupted`, in a command.

    One that somebody handles already, or has switched off, is left alone.

    Yields:
        those that were raised. One may have been lost on its way, or have become another error, as
        happens amid the making of a class; so it is raised again by all that lets signals count.
    """
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = [n for n, handler in handlers.items() if handler in _USUAL] if _main_thread() else []
    _raised.clear()
    for number in taken:
        signal.signal(number, _raise)
    try:
        yield _raised
    finally:
        for number in taken:
            signal.signal(number, handlers[number])
        _raised.clear()


def _raise(number: int, frame: FrameType | None) -> None:
    _raised.append(Terminated() if number == signal.SIGTERM else Interrupted())
    raise _raised[-1]


def _raise_again() -> None:
    if _raised and _main_thread():
        raise _raised[-1]


def _main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
