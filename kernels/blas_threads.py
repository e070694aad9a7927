"""How many threads the BLAS libraries of this process may use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def loaded() -> list[Any]:
    """Return the BLAS libraries that are loaded by now, as threadpoolctl controls them."""
    from threadpoolctl import ThreadpoolController  # noqa: PLC0415

    return [lib for lib in ThreadpoolController().lib_controllers if lib.user_api == "blas"]


@contextmanager
def limited(libraries: Sequence[Any], threads: int) -> Iterator[None]:
    """Return a context in which libraries compute on so many threads, whatever was set before."""
    # Not threadpoolctl's own context, which takes 40 microseconds, as much as two small steps.
    before = [library.get_num_threads() for library in libraries]
    try:
        for library in libraries:
            library.set_num_threads(threads)
        yield
    finally:
        for library, number in zip(libraries, before, strict=True):
            library.set_num_threads(number)
