"""Processes of their own for whatever touches the device, with a time by which they must be done.

An error on a device can spoil it for its process alone, and a library's settings and threads are
nobody else's. Those of ``gpubp.bench`` are another thing: they are stopped between turns, which a
process with a device should not be, and need gpubp to be imported by whoever starts them, while
this script says what is wrong on a machine where that fails.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any

BENCH = Path(__file__).resolve().parents[1]
ROOT = BENCH.parent
LENT = Path(__file__).with_name("lent")

_TAIL = 3000  # characters of what a process said before it died
_PATIENCE = 30.0  # seconds that an interrupted program has to conclude


class ProcessError(RuntimeError):
    """A process failed; the text is its traceback or the end of what it said."""


class OutOfTimeError(ProcessError):
    """A process was not done in time."""


def environment(*folders: Path) -> dict[str, str]:
    """Return the environment of a process that finds the packages that are lent, and folders."""
    path = [str(LENT), *map(str, folders), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # else JAX takes most of the device's memory
    }


def command(*arguments: str) -> list[str]:
    """Return a command of this Python. -P: else gpubp/ in the current folder comes first."""
    return [sys.executable, "-P", *arguments]


def plain(text: str) -> str:
    """Return what a program said without where things lie on this machine."""
    for folder in (str(ROOT), sys.prefix):
        text = text.replace(folder + os.sep, "")
    return text


def run(arguments: Sequence[str], env: Mapping[str, str], deadline: float) -> tuple[int, str, bool]:
    """Run a program in the repository's root; return exit code, output, and whether it was in time.

    At the deadline it is interrupted as by Ctrl-C, so that it can say how far it came.
    """
    with subprocess.Popen(
        arguments, cwd=ROOT, env=dict(env), text=True, errors="replace", start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=max(1.0, deadline - time.monotonic()))
            return process.returncode, output, True
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                output, _ = process.communicate(timeout=_PATIENCE)
                return process.returncode, output, False
            _kill_group(process)
            output, _ = process.communicate()
            return process.returncode, output, False
        except BaseException:
            _kill_group(process)
            raise


def _kill_group(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


class Worker:
    """An object in a process of its own, whose methods are called; see worker.py.

    Its module is imported at once, beside whatever else is going on; the object is made at the
    first call.
    """

    def __init__(self, factory: str, deadline: float, **arguments: object) -> None:
        self._name = factory
        self._deadline = deadline
        self._said: IO[bytes] = TemporaryFile()  # noqa: SIM115 (closed at the exit)
        self._process = subprocess.Popen(
            command("-m", "gpu.worker", factory, json.dumps(arguments)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True,
            env=environment(BENCH),
        )  # fmt: skip
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._said):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def call(self, method: str, *arguments: object, within: float = math.inf) -> Any:
        """Call a method of the object; what it takes and returns is JSON.

        Raises:
            OutOfTimeError: it did not return by the deadline, or within so many seconds.
            ProcessError: it failed, or the process died.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # of a process that died, which the answer shows
            print(json.dumps([method, arguments]), file=self._process.stdin, flush=True)
        try:
            left = min(within, self._deadline - time.monotonic())
            line = self._lines.get(timeout=max(0.1, left))
        except queue.Empty:
            raise OutOfTimeError(f"{self._name}.{method} was not done in time") from None
        if not line:
            raise ProcessError(f"{self._name}.{method}: the process died\n{self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ProcessError(answer["error"])
        return answer["result"]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put("")

    def _last_words(self) -> str:
        end = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, end - _TAIL))
        return self._said.read().decode(errors="replace")
