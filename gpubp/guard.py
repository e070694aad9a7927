"""One thread at a time computes with a trainer, and one run at a time trains it."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from gpubp.errors import InputError


class _Owner:
    """Who trains, or asks to: it lives no longer than the call does."""

    def __init__(self) -> None:
        self.thread = threading.current_thread().name
        self.done = False


class Guard:
    """The locks of a trainer.

    A second caller waits, in a wait that Ctrl-C ends; the thread that computes may call again, as
    callbacks do. In a process that was forked nobody computes, so there the locks are new.
    """

    def __init__(self) -> None:
        self._made_in = -1  # no process
        self._renew()

    def _renew(self) -> None:
        if self._made_in != os.getpid():
            self._made_in = os.getpid()
            self._computing = threading.RLock()
            self._owners: list[weakref.ref[_Owner]] = []  # the first that is not done trains

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
        # No lock: a Ctrl-C just as it is taken or given back would leave it taken. What is appended
        # has its place at once, and goes with the call's frame if it does not come to its end.
        mine, owners = _Owner(), self._owners
        owners.append(weakref.ref(mine, owners.remove))
        try:
            found = (owner() for owner in list(owners))
            first = next(owner for owner in found if owner is not None and not owner.done)
            if first is not mine:
                raise InputError(
                    f"this trainer is being trained already, by thread {first.thread!r}; wait "
                    "until that fit has returned, or train a copy: copy.deepcopy(trainer), made "
                    "before"
                )
            yield
        finally:
            mine.done = True
