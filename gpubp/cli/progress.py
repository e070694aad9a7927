"""Says on screen that kernels are being compiled, which happens once per machine."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gpubp.kernels.numba import compiled
from gpubp.kernels.spec import KERNELS

_START_OF_EMPTY_LINE = "\r\x1b[2K"


@contextmanager
def compilation_shown() -> Iterator[None]:
    """Show the number and name of each kernel before it is compiled, on one line that goes away.

    Where the standard error stream is not a terminal, the first kernel is announced and no other.
    """
    # The stream as it is now: a progress line would put what is written later on lines of its own.
    stream, count = sys.stderr, 0
    terminal = stream.isatty()

    def show(variant: str) -> None:
        nonlocal count
        count += 1
        text = "compiling kernels, once per machine"
        if terminal:
            text = f"{text}: {count} {_kernel(variant)}"[: shutil.get_terminal_size().columns - 1]
            print(_START_OF_EMPTY_LINE + text, end="", file=stream, flush=True)
        elif count == 1:
            print(text, file=stream, flush=True)

    stop = compiled.on_compile(show)
    try:
        yield
    finally:
        stop()
        if count and terminal:
            print(_START_OF_EMPTY_LINE, end="", file=stream, flush=True)


def _kernel(variant: str) -> str:
    """Return the kernel's name, without the dtypes that a variant's ends with."""
    names = [name for name in KERNELS if variant.startswith(f"{name}_")]
    return max(names, key=len, default=variant)
