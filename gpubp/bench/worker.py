"""The process that an object lives in: answers calls that come as lines of JSON.

    python -P -m gpubp.bench.worker MODULE:CLASS

Started by processes.py. ``make`` makes the object, in place of the last one; all other calls are of
its methods.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

from gpubp.bench.cases import Case

_PR_SET_PDEATHSIG = 1


def main(factory: str) -> None:
    """Call methods as asked until the input ends."""
    # A stopped process would outlive a parent that was killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Whatever a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    made: Any = None
    for line in sys.stdin:
        method, arguments, named = json.loads(line)
        answer: dict[str, Any] = {"result": None}
        try:
            if method == "make":
                made = None
                gc.collect()  # the last one's memory, before the next one's is taken
                made = _make(factory, **arguments[0])
            else:
                answer["result"] = getattr(made, method)(*arguments, **named)
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def _make(factory: str, case: dict[str, Any], **arguments: Any) -> Any:
    module, _, name = factory.partition(":")
    made = Case(**{**case, "sizes": tuple(case["sizes"])})
    return getattr(importlib.import_module(module), name)(made, **arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
