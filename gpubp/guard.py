"""One thread at a time computes with a trainer, and one run at a time trains it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gpubp.errors import InputError


class Guard:
    """The locks of a trainer.

    A second caller waits, in a wait that Ctrl-C ends; the thread that computes may call again, as
    callbacks do. In a process that was forked nobody computes, so there the locks are new.
    """

    def __init__(self) -> None:
        self._made_in = -1  # no process
        self._owner = ""  # the thread that trains
        self._renew()

    def _renew(self) -> None:
        if self._made_in != os.getpid():
            self._made_in = os.getpid()
            self._computing, self._training = threading.RLock(), threading.Lock()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Return a context in which no other thread computes."""
        self._renew()
        with self._computing:
            yield

    @contextmanager
    def training(self) -> Iterator[None]:
        """Return a context in which nobody else trains.

        Raises:
            InputError: somebody does already.
        """
        self._renew()
        if not self._training.acquire(blocking=False):
            raise InputError(
                f"this trainer is being trained already, by thread {self._owner!r}; wait until "
                "that fit has returned, or train a copy: copy.deepcopy(trainer), made before"
            )
        try:
            self._owner = threading.current_thread().name
            yield
        finally:
            self._training.release()
