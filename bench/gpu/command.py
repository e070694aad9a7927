"""The command: its options, the order of the parts, and the time that is left.

This process touches no device and imports nothing of gpubp: each part has processes of its own.
"""

from __future__ import annotations

import argparse
import re
import shlex
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from gpu import report, smi
from gpu.document import RESULTS, Document, RefusedError
from gpu.parts import GROUPS, FailedError, Part, Setting, SkippedError, table
from gpu.process import ProcessError, Worker, plain

DONE, SOMETHING_FAILED, REFUSED, CALL_AGAIN = range(4)
_WHAT = """
Tests, checks and benchmarks of the CUDA path on this machine's first GPU. All goes into one JSON
file. Parts that are in it are left out, so that a run can be cut into several: with --budget 570
nothing is begun that is likely to take longer, and what is left is said.
"""
_MACHINE_SECONDS = 120.0
_ANY_TIME = 24 * 3600.0
_ERROR = 6000  # characters


def main(arguments: list[str] | None = None) -> int:
    """Return 0, 1 if a part failed, 2 if nothing could be begun, 3 if parts are left."""
    options = _options(arguments)
    console = Console()
    if not console.is_terminal:
        console.width = 110
    deadline = time.monotonic() + options.budget
    try:
        here = _machine(options.stand_in)
        document = Document(options.out or _default_file(here), stand_in=options.stand_in)
        document.enter(here)
        setting = Setting(options.stand_in, tuple(shlex.split(options.tests)), document.known)
        chosen = _chosen(table(setting), options.only)
    except (ProcessError, RefusedError) as error:
        console.print(str(error), highlight=False)
        return REFUSED
    console.print(report.heading(here), highlight=False)
    left = []
    # What failed before is tried again when all else is done.
    for part in sorted(chosen, key=lambda part: part.name in document.parts):
        if document.known(part.name) is not None and not options.again:
            continue
        if deadline - time.monotonic() < part.seconds:
            left.append(part.name)
            continue
        console.print(f"{part.name} …", highlight=False)
        document.add(part.name, _do(part, deadline, here["problem"]))
        console.print("  " + report.line(document.parts[part.name]), highlight=False)
    report.show(document.content, console)
    console.print(f"written to {document.path}", highlight=False, soft_wrap=True)
    if left:
        console.print(f"left for another call: {' '.join(left)}", highlight=False)
    statuses = [document.parts[p.name]["status"] for p in chosen if p.name in document.parts]
    if "failed" in statuses:
        return SOMETHING_FAILED
    return CALL_AGAIN if left else DONE


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python bench/gpu", description=_WHAT)
    parser.add_argument(
        "--out", type=Path, help="the JSON file (default: in bench/results/gpu, by the GPU's name)"
    )
    parser.add_argument(
        "--only", default=[], type=lambda text: text.split(","), metavar="PART,...",
        help=f"of {', '.join(GROUPS)}, or parts such as bench/mnist/bf16",
    )  # fmt: skip
    parser.add_argument("--budget", type=float, default=_ANY_TIME, metavar="SECONDS")
    parser.add_argument("--again", action="store_true", help="also what is in the file already")
    parser.add_argument(
        "--tests", default="", metavar="ARGUMENTS",
        help="of pytest, in place of all tests that concern the device: 'tests/cuda -k adam'",
    )  # fmt: skip
    # The script's own test: on the CPU, with next to no data.
    parser.add_argument("--stand-in", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _default_file(here: dict[str, Any]) -> Path:
    """Return where the result of a GPU lies.

    Raises:
        RefusedError: there is none.
    """
    if "name" not in here["gpu"]:
        raise RefusedError(f"the GPU can't be used: {here['problem']}; or name a file with --out")
    words = re.findall(r"[a-z0-9]+", here["gpu"]["name"].lower())
    return RESULTS / "gpu" / f"{'-'.join(words)}.json"


def _machine(stand_in: bool) -> dict[str, Any]:
    """Return what this machine is; it is asked whatever the budget is."""
    deadline = time.monotonic() + _MACHINE_SECONDS
    with Worker("gpu.machine:Machine", deadline, stand_in=stand_in) as worker:
        here: dict[str, Any] = worker.call("describe")
    return here


def _chosen(parts: Iterable[Part], only: list[str]) -> list[Part]:
    """Return the parts of these names or groups, all if there are none.

    Raises:
        RefusedError: a name is none of a part or a group of parts.
    """
    parts = list(parts)
    for name in only:
        if not any(_belongs(part, name) for part in parts):
            known = " ".join(part.name for part in parts)
            raise RefusedError(f"there is no part {name!r}; the parts are {known}")
    return [part for part in parts if not only or any(_belongs(part, name) for name in only)]


def _belongs(part: Part, name: str) -> bool:
    return part.name == name or part.name.startswith(name + "/")


def _do(part: Part, deadline: float, problem: str) -> dict[str, Any]:
    """Do a part; return what became of it, whatever that is."""
    started, clocks = time.monotonic(), smi.clocks()
    record: dict[str, Any] = {"status": "done"}
    try:
        if problem:
            raise ProcessError(f"the GPU can't be used: {problem}")
        record["result"] = part.run(deadline)
    except SkippedError as error:
        record = {"status": "skipped", "error": str(error)}
    except FailedError as error:
        record = {"status": "failed", "error": _said(error), "result": error.result}
    except Exception as error:
        record = {"status": "failed", "error": _said(error)}
    return record | {
        "seconds": round(time.monotonic() - started, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "clocks": {"before": clocks, "after": smi.clocks()},
    }


def _said(error: Exception) -> str:
    known = isinstance(error, FailedError | ProcessError)
    return plain(str(error) if known else repr(error))[-_ERROR:]
