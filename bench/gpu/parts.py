"""All that is done on a GPU, in parts that stand alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from gpu import cases, race, sanitizer, suite
from gpu.process import ProcessError, Worker

Record = dict[str, Any]

PRECISIONS = ("fp32", "tf32", "bf16", "fp64")
# Most of it is torch.compile's.
_RACE_SECONDS = {"step": 180, "epoch": 300}
_GRAPH_STEPS, _MEMORY_STEPS = 200, 1000


class SkippedError(Exception):
    """A part can't be done here; the text says why."""


class FailedError(Exception):
    """A part was done and found something wrong; ``result`` is what it found."""

    def __init__(self, message: str, result: Record) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class Setting:
    """What all parts are told.

    Args:
        stand_in: compute on the CPU, on next to nothing.
        tests: what pytest is given in place of the tests that concern the device.
        known: returns the result of another part, if it is done.
    """

    stand_in: bool
    tests: tuple[str, ...]
    known: Callable[[str], Record | None]


@dataclass(frozen=True)
class Part:
    """Something to be done; ``run(deadline)`` returns its result as JSON values.

    ``seconds`` is about what it takes, so that none is begun for which there is no time.
    """

    name: str
    seconds: float
    run: Callable[[float], Record]


GROUPS = ("tests", "sanitizer", "graph", "bench")


def table(setting: Setting) -> Iterator[Part]:
    """Yield all parts in the order in which they are best done."""
    here = setting.stand_in
    yield Part("tests/compile", 60, partial(sanitizer.compile_kernels, stand_in=here))
    for name, arguments in _selections(setting):
        yield Part(f"tests/{name}", 200, partial(_tests, arguments))
    for tool in sanitizer.TOOLS:
        yield Part(f"sanitizer/{tool}", 90, partial(_sanitized, tool, here))
    for precision in PRECISIONS:
        yield Part(f"graph/{precision}", 30, partial(_graph, precision, here))
    yield Part("bench/roofs", 40, partial(_roofs, here))
    for case in cases.CASES.values():
        for precision in case.precisions:
            run = partial(_race, case.name, precision, setting)
            yield Part(f"bench/{case.name}/{precision}", _RACE_SECONDS[case.unit], run)


def _selections(setting: Setting) -> Iterator[tuple[str, list[str]]]:
    if setting.tests:
        yield "chosen", list(setting.tests)
        return
    yield "cuda", ["tests/cuda"]
    # Of the others, those that run in the way "cuda".
    yield "ways", ["tests", "--ignore=tests/cuda", "-k", "cuda"]


def _tests(arguments: list[str], deadline: float) -> Record:
    result = suite.run(arguments, deadline)
    if result["failed"] or not result["in_time"] or result["exit_code"]:
        raise FailedError(
            f"{result['failed']} tests failed, pytest ended with {result['exit_code']}"
            + ("" if result["in_time"] else "; it was cut short"),
            result,
        )
    return result


def _sanitized(tool: str, stand_in: bool, deadline: float) -> Record:
    if sanitizer.missing():
        raise SkippedError(sanitizer.missing())
    return sanitizer.check(tool, deadline, stand_in=stand_in)


def _graph(precision: str, stand_in: bool, deadline: float) -> Record:
    """Do both checks of graphs; the second one whatever the first found."""
    counts = {"compare": _GRAPH_STEPS, "memory": _MEMORY_STEPS}
    if stand_in:
        counts = dict.fromkeys(counts, 3)
    result: Record = {}
    problems = []
    for method, steps in counts.items():
        options = {"precision": precision, "stand_in": stand_in}
        with Worker("gpu.graphs:Graphs", deadline, **options) as worker:
            try:
                result[method] = worker.call(method, steps)
            except ProcessError as error:
                problems.append(f"{method}: {error}")
    if problems:
        raise FailedError("\n".join(problems), result)
    return result


def _roofs(stand_in: bool, deadline: float) -> Record:
    with Worker("gpu.roofs:Roofs", deadline, stand_in=stand_in) as worker:
        return {
            "gemm": {name: worker.call("gemm", name) for name in ("fp32", "tf32", "bf16")},
            "copy": worker.call("copy"),
            "nodes": worker.call("nodes"),
        }


def _race(case: str, precision: str, setting: Setting, deadline: float) -> Record:
    return race.race(
        cases.find(case, tiny=setting.stand_in), precision, deadline,
        stand_in=setting.stand_in, roofs=setting.known("bench/roofs"),
    )  # fmt: skip
