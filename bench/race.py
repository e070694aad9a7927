"""Turns: contenders are timed one after the other, round after round, and nobody out of turn.

The speed of a machine drifts, by other load, heat and turbo clocks. Interleaved turns let the drift
hit all alike, so that ratios of medians mean something. Between its turns a contender's process is
stopped: threads of a pool that still spin for a while after their work would slow the next one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from contenders import Entry
from networks import Network

# torch.compile otherwise keeps compiler processes around.
_ENVIRONMENT = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}


def take_turns(turns: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every function once a round; return what they returned."""
    results: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            results[name].append(turn())
    return results


@dataclass
class Result:
    """What is known of a contender after a race.

    ``missing`` says what it would need to take part, ``failure`` why it could not go on.
    """

    entry: Entry
    missing: str = ""
    failure: str = ""
    seconds: list[float] = field(default_factory=list)  # a step, by round
    # At the start, and after an epoch of rows in order; None where they can't be compared.
    losses: tuple[float | None, float | None] = (None, None)


def race(network: Network, entries: Iterable[Entry], rounds: int) -> dict[str, Result]:
    """Time training steps of a network, everybody against everybody; by name of contender."""
    results = {entry.name: Result(entry, entry.missing) for entry in entries}
    with ExitStack() as stack:
        present = [result.entry for result in results.values() if not result.missing]
        workers = {e.name: stack.enter_context(Worker(e.name, network.name)) for e in present}
        for name, worker in workers.items():
            try:
                results[name].losses = _warm_up(worker)
            except RuntimeError as error:
                results[name].failure = str(error)
        steps = network.epochs * network.steps

        def turn(worker: Worker) -> Callable[[], float]:
            return lambda: worker.call("train", network.epochs, True) / steps

        ready = {name: turn(w) for name, w in workers.items() if not results[name].failure}
        for name, seconds in take_turns(ready, rounds).items():
            results[name].seconds = seconds
    return results


def _warm_up(worker: Worker) -> tuple[float | None, float | None]:
    """Compile, and bring caches and allocators to their usual state; return the two losses."""
    worker.wait()
    before = worker.call("loss")
    worker.call("train", 1, False)
    after = worker.call("loss")
    worker.call("train", 1, True)
    return before, after


class Worker:
    """A contender's process, stopped whenever it is not asked anything."""

    def __init__(self, contender: str, network: str) -> None:
        self._name = f"{contender} on {network}"
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), contender, network],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | _ENVIRONMENT,
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
        self._process.communicate()

    def wait(self) -> None:
        """Wait until the contender is made."""
        self._answer()

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method of the contender.

        Raises:
            RuntimeError: it failed; with its traceback.
        """
        self._process.send_signal(signal.SIGCONT)
        print(json.dumps([method, arguments]), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self._process.send_signal(signal.SIGSTOP)
        answer = json.loads(line or '{"error": "the process died"}')
        if "error" in answer:
            raise RuntimeError(f"{self._name}:\n{answer['error']}")
        return answer["result"]
