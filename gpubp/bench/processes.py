"""Objects in processes of their own, each stopped while another has its turn.

Threads of a pool that still spin for a while after their work would slow the next one, and a
library's settings are nobody else's. ``bench/gpu`` has processes of another kind: they start where
gpubp can't be imported, and are never stopped, because their device is not.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import asdict
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any

from gpubp.bench.cases import Case
from gpubp.errors import GpubpError

_ENVIRONMENT = {
    "TORCHINDUCTOR_COMPILE_THREADS": "1",  # else it keeps compiler processes around
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # else JAX takes most of a GPU's memory
}
_TAIL = 2000  # characters of what a process said before it died


class WorkerError(GpubpError):
    """An object in another process failed; the text has its traceback."""


class Worker:
    """An object in a process of its own; see worker.py."""

    def __init__(self, factory: str) -> None:
        self._factory = factory
        self._said: IO[bytes] = TemporaryFile()  # noqa: SIM115 (closed at the exit)
        # -P: else a folder gpubp/ in the current one would be imported, not what is installed.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gpubp.bench.worker", factory],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
            env=os.environ | _ENVIRONMENT,
        )  # fmt: skip

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()
        self._said.close()

    @property
    def ended(self) -> bool:
        """Whether its process is gone."""
        return self._process.poll() is not None

    def make(self, case: Case, *, within: float = math.inf, **arguments: object) -> None:
        """Make the object for a case, in place of the last one.

        Raises:
            WorkerError: it can't be made, or not within so many seconds.
        """
        self.call("make", {"case": asdict(case), **arguments}, within=within)

    def call(
        self, method: str, *arguments: object, within: float = math.inf, **named: object
    ) -> Any:
        """Call a method of the object; what it takes and returns is JSON.

        Raises:
            WorkerError: it failed, the process died, or it did not return within so many seconds:
                then the process is ended.
        """
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        with suppress(BrokenPipeError):  # of a process that died, which the answer shows
            print(json.dumps([method, arguments, named]), file=self._process.stdin, flush=True)
        line = self._answer(within)
        self._process.send_signal(signal.SIGSTOP)
        answer = json.loads(line) if line else {"error": f"the process died\n{self._last_words()}"}
        if "error" in answer:
            raise WorkerError(f"{self._factory}.{method}:\n{answer['error']}")
        return answer["result"]

    def _answer(self, within: float) -> str:
        """Return the next line; the empty text if the process died."""
        assert self._process.stdout is not None
        if within < math.inf and not select.select([self._process.stdout], [], [], within)[0]:
            self._process.kill()
            self._process.wait()
            raise WorkerError("it took too long for the time that is left")
        return self._process.stdout.readline()

    def _last_words(self) -> str:
        end = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, end - _TAIL))
        return self._said.read().decode(errors="replace")


class Pool:
    """Workers by what they are for, started when first asked for and ended together."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._workers: dict[tuple[str, ...], Worker] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def worker(self, factory: str, *purpose: str) -> Worker:
        """Return the worker of a factory for a purpose, a new one if the last has ended."""
        key = (factory, *purpose)
        if key not in self._workers or self._workers[key].ended:
            self._workers[key] = self._stack.enter_context(Worker(factory))
        return self._workers[key]
