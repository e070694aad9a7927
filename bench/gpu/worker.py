"""The process that an object lives in: answers calls that come as lines of JSON.

    python -P -m gpu.worker MODULE:CLASS ARGUMENTS

Started by process.py. ARGUMENTS is a JSON object; the object is made when the first call has come.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

_PR_SET_PDEATHSIG = 1
_TAIL = 3000  # characters of a traceback


def main(factory: str, arguments: str) -> None:
    """Call the object's methods as asked until the input ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # end with whoever started this
    # Whatever a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, name = factory.partition(":")
    problem, made = "", None
    try:
        imported = importlib.import_module(module)
    except Exception:
        problem = traceback.format_exc()
    for line in sys.stdin:
        method, values = json.loads(line)
        answer: dict[str, Any]
        try:
            if problem:
                answer = {"error": problem[-_TAIL:]}
            else:
                made = made or getattr(imported, name)(**json.loads(arguments))
                answer = {"result": getattr(made, method)(*values)}
        except Exception:
            answer = {"error": traceback.format_exc()[-_TAIL:]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
