"""What the phases of a step cost: forward, backward, update, by running a step cut short.

A plan that ends after forward, one that ends after backward and the whole one run in turns, each
for many steps in the backend's own way: compiled loop, threads, CUDA graph. A phase is the
difference of two neighbours, so the phases add up to the step, and nothing of Python is in them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gpubp.backends.base import Executable
from gpubp.engine import Engine
from gpubp.feed import Data
from gpubp.kernels.contract import WIDE
from gpubp.kernels.spec import kernel as contract
from gpubp.plan.ir import WIDTHS, Call, Plan
from gpubp.plan.memory import place
from gpubp.trainer import Trainer

PHASES = ("forward", "backward", "update")
_CYCLES = 5  # of a turn, or fewer of a step that takes long


class Phases:
    """The three runs of a trainer's step on rows that lie where it computes."""

    def __init__(self, trainer: Trainer, x: Any, y: Any, batch: int) -> None:
        self._trainer, self._batch = trainer, batch
        self._backend = trainer._backend
        with self._backend.active():
            data, _ = trainer._one_minibatch(x, y, batch)
            self._engine = trainer._trained()
            self._steps = data.size // batch
            self._runs = self._executables(data)
            self._leader = _same_way(self._runs)

    def turn(self, seconds: float) -> dict[str, float]:
        """Return seconds a step of each phase and of their sum, from about so many of running.

        The three alternate a few times and the least of each counts: a difference of two times that
        something else had a part in would say little.
        """
        each = seconds / _CYCLES / len(self._runs)
        end = time.perf_counter() + seconds
        with self._backend.active():
            cycles = [self._cycle(each)]
            while len(cycles) < _CYCLES and time.perf_counter() < end:
                cycles.append(self._cycle(each))
        _, best = min((cycle[0], way) for way, cycle in cycles)
        alike = [cycle for way, cycle in cycles if way == best]
        ends = [min(taken) for taken in zip(*alike, strict=True)][::-1]
        pairs = zip(PHASES, [0.0, *ends], ends, strict=False)
        # Where others use the machine, less work may have taken longer than more.
        found = {name: max(0.0, end - start) for name, start, end in pairs}
        return {**found, "step": ends[-1]}

    def _cycle(self, seconds: float) -> tuple[bool, list[float]]:
        """Return whether threads shared the steps, and seconds a step, of the whole one first.

        The others go the way that it went.
        """
        taken = [self._timed(run, seconds) for run in self._runs[::-1]]
        return self._leader is not None and self._leader.parallel, taken

    def _executables(self, data: Data) -> list[Executable]:
        """Return the step cut after each phase, bound; not those that fit binds and releases."""
        engine, backend = self._engine, self._backend
        order = backend.zeros(data.size, "int64")
        order[...] = engine.orders(None, data.size, True)(0)
        rates = backend.zeros(self._steps, "float64")
        rates[...] = self._trainer.optimizer.lr
        plans = engine._executable("training", data.inputs, self._batch, True).plans
        arrays = {**replace(data, rows=order).arrays(), "rates": rates}
        runs = [backend.prepare([cut(plan, end) for plan in plans]) for end in PHASES]
        for run in runs:
            run.bind(engine.vectors, arrays)
        return runs

    def _timed(self, run: Executable, seconds: float) -> float:
        """Return seconds a step; whole epochs are run, from their first row on."""
        done, taken = 0, 0.0
        while taken < seconds or not done:
            _rewind(self._engine)
            start = time.perf_counter()
            run.timed_run(self._steps)
            taken += time.perf_counter() - start
            done += self._steps
        return taken / done


class _Leader:
    """The choice between one thread and several of the whole step, remembered."""

    def __init__(self, pace: Any) -> None:
        self._pace = pace
        self.parallel = False

    def choose(self, steps: int) -> tuple[bool, int]:
        self.parallel, count = self._pace.choose(steps)
        return self.parallel, count

    def note(self, parallel: bool, steps: int, seconds: float) -> None:
        self._pace.note(parallel, steps, seconds)


class _Follower:
    """The same choice for a step cut short."""

    def __init__(self, leader: _Leader) -> None:
        self._leader = leader

    def choose(self, steps: int) -> tuple[bool, int]:
        return self._leader.parallel, steps

    def note(self, parallel: bool, steps: int, seconds: float) -> None:
        pass


def _same_way(runs: Sequence[Executable]) -> _Leader | None:
    """Have all run as the last one does, on one thread or several, where a backend can choose.

    Else a short phase goes on one thread, and its difference to a longer one on two says nothing.
    """
    *others, whole = runs
    if not hasattr(whole, "pace"):  # Numba's executables alone have one
        return None
    leader = _Leader(whole.pace)
    for run, pace in [(whole, leader), *((run, _Follower(leader)) for run in others)]:
        vars(run)["pace"] = pace
    return leader


def cut(plan: Plan, end: str) -> Plan:
    """Return a plan that ends after a phase and goes on to the next minibatch none the less."""
    advance = tuple(call for call in plan.update if call.kernel == "advance")
    if end == "forward":
        return replace(plan, forward=plan.forward + advance, backward=(), update=())
    return replace(plan, backward=plan.backward + advance, update=()) if end == "backward" else plan


def costs(plan: Plan, trainer: Trainer) -> dict[str, Any]:
    """Return for each phase and the step {"flops", "bytes", "calls"}, and two sizes in bytes.

    "set" is what a step works in: it says in which cache the bytes move. "elementwise" is what the
    calls of a step move that are no matrix products.
    """
    found: dict[str, Any] = {name: _cost(getattr(plan, name)) for name in PHASES}
    found["step"] = _cost(plan.calls)
    found["elementwise"] = sum(call.bytes for call in plan.calls if not _is_product(call))
    width = WIDTHS[WIDE[plan.dtype]]
    vectors = 2 + len(trainer.optimizer.state)
    return found | {"set": vectors * width * trainer.parameters().size + transient(plan)}


def _is_product(call: Call) -> bool:
    """Return whether a call is a matrix product, with an epilogue or without."""
    return contract(call.kernel).family == "matrix" and "c" in call.named()


def transient(plan: Plan) -> int:
    """Return the bytes of a plan's transient memory."""
    return sum(WIDTHS[dtype] * length for dtype, length in place(plan).lengths.items())


def _cost(calls: tuple[Call, ...]) -> dict[str, int]:
    return {
        "flops": sum(call.flops for call in calls),
        "bytes": sum(call.bytes for call in calls),
        "calls": len(calls),
    }


def _rewind(engine: Engine) -> None:
    engine.rewind()
    engine.begin_epoch(engine.step)
