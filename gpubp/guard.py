"""One thread at a time computes with a trainer, and one run at a time trains it."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from gpubp.errors import InputError


class _Owner:
    """Who trains: a name that lives as long as the call does."""

    def __init__(self) -> None:
        self.thread = threading.current_thread().name


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
            self._computing, self._taking = threading.RLock(), threading.Lock()
            self._owner: weakref.ref[_Owner] | None = None  # who trains

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
        mine = _Owner()
        try:
            with self._taking:
                other = getattr(self._owner and self._owner(), "thread", None)
                if other is not None:
                    raise InputError(
                        f"this trainer is being trained already, by thread {other!r}; wait "
                        "until that fit has returned, or train a copy: copy.deepcopy(trainer), "
                        "made before"
                    )
                self._owner = weakref.ref(mine)
            yield
        finally:
            # A Ctrl-C may be raised before this is done; then it is when the call's frame goes.
            if self._owner is not None and self._owner() is mine:
                self._owner = None
