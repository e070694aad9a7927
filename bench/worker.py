"""The process that a contender lives in: answers calls that come as lines of JSON.

    python worker.py CONTENDER NETWORK

Started by race.py. The first answer comes when the contender is made.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, TextIO

from contenders import ENTRIES
from networks import NETWORKS

_PR_SET_PDEATHSIG = 1


def main(contender: str, network: str) -> None:
    """Make the contender, then call its methods as asked until the input ends."""
    # A stopped process would outlive a parent that was killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Whatever a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    entry = next(entry for entry in ENTRIES if entry.name == contender)
    chosen = next(candidate for candidate in NETWORKS if candidate.name == network)
    made: list[Any] = []
    _answer(answers, lambda: made.append(entry.make(chosen)))
    for line in sys.stdin:
        name, arguments = json.loads(line)
        _answer(answers, lambda: getattr(made[0], name)(*arguments))  # noqa: B023 (called at once)


def _answer(answers: TextIO, function: Callable[[], Any]) -> None:
    try:
        answer = {"result": function()}
    except Exception:
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
