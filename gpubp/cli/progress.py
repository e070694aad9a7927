"""Says on screen that kernels are being compiled, which happens once per machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gpubp.kernels.numba import compiled

_START_OF_EMPTY_LINE = "\r\x1b[2K"


@contextmanager
def compilation_shown() -> Iterator[None]:
    """Show the number and name of each kernel before it is compiled, on one line that goes away.

    Where the standard error stream is not a terminal, the first kernel is announced and no other.
    """
    count, terminal = 0, sys.stderr.isatty()

    def show(kernel: str) -> None:
        nonlocal count
        count += 1
        if terminal:
            text = f"compiling kernels, once per machine: {count} {kernel}"
            print(_START_OF_EMPTY_LINE + text, end="", file=sys.stderr, flush=True)
        elif count == 1:
            print("compiling kernels, once per machine", file=sys.stderr, flush=True)

    stop = compiled.on_compile(show)
    try:
        yield
    finally:
        stop()
        if count and terminal:
            print(_START_OF_EMPTY_LINE, end="", file=sys.stderr, flush=True)
