"""The fast CPU backend: whole epochs in compiled code, the minibatch split into shares.

Each share has its rows of the minibatch, its own transient memory and, but for the first, its own
gradients and counters; parameters and optimizer state are common. The shares of a step run on
threads side by side or on one thread, with the same result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np

from gpubp.backends import check, numba_measure
from gpubp.backends.base import Array, Backend, Choices, Executable, Outcome, Vectors
from gpubp.backends.kept import Times
from gpubp.backends.numba_choices import Choice, Chooser
from gpubp.backends.numba_program import Share, Writer, aligned, entries_of
from gpubp.backends.numba_units import UnitWriter
from gpubp.backends.team import Team
from gpubp.guard import Guard
from gpubp.interrupts import stopping
from gpubp.kernels.numba import ahead, blas, compiled, eager, entry, order, runner
from gpubp.plan.build import Rows
from gpubp.plan.ir import COUNTERS, Buffer, Call, Plan

_REASONS: dict[int, Literal["finished", "not finite"]] = {
    runner.FINISHED: "finished",
    runner.NOT_FINITE: "not finite",
}


class NumbaBackend(Backend):
    """Runs plans in compiled code.

    Args:
        threads: how many threads may share a minibatch. Results depend on it in the last bits, so
            it is kept in checkpoints.
        gemm: by which routine products are computed, one of :data:`gpubp.backends.GEMMS`.
        shares: into how many shares a minibatch is split; None chooses.
        share_by: by what a step is split, one of :data:`gpubp.backends.SHARE_BY`.

    Raises:
        InputError: ``threads`` or ``shares`` is out of its range, or there is nothing of
            a name.
        DeviceError: the routine is not installed.
    """

    name = "numba"
    xp = np

    def __init__(
        self, threads: int, *, gemm: str = "auto", shares: int | None = None, share_by: str = "auto"
    ) -> None:
        check(threads, gemm, shares, share_by)
        self.threads = self.max_shares = threads
        self.team = Team(threads)
        self.busy = Guard()  # while a team runs
        self._chooser = Chooser(threads, gemm, shares, share_by)

    def zeros(self, length: int, dtype: str) -> Array:
        """Return a new flat array of zeros, aligned to a cache line."""
        return aligned(length, dtype)

    def to_device(self, array: Array) -> Array:
        """Return the array: host and device are one."""
        return np.asarray(array)

    def to_host(self, array: Array) -> Any:
        """Return the array: host and device are one."""
        return array

    def has(self, call: Call) -> bool:
        """Return whether there is a Numba version; none keeps a mask."""
        return call.named().get("mask") is None and entry.implements(call.kernel)

    def call(self, kernel: str, operands: Sequence[Array | None], **scalars: float) -> None:
        """Run one kernel."""
        eager.run(kernel, operands, scalars)

    def shuffle(self, count: int, stream: int) -> Callable[[int, int], Array]:
        """Return what draws orders, five times faster than by a sort by comparisons."""
        return order.Shuffle(count, stream)

    def routine(self, call: Call) -> str:
        """Return the routine by which a call is computed; the empty text if it is not a product."""
        choice = self._chooser.routine(call)
        return choice.name if choice else ""

    def split(self, plan: Plan, part: Callable[[Rows], Plan]) -> tuple[Plan, ...]:
        """Return plans for shares of as many rows, give or take one, as the choice is."""

        ahead.compile_entries(entries_of(plan, self._chooser.most_shares(plan)))

        def measure(names: Sequence[str]) -> Times:
            made = {
                name: NumbaExecutable(self, _shared(plan, name, part), by_units="units" in name)
                for name in names
            }
            with self.busy.computing(), blas.one_thread():
                return numba_measure.steps(made)

        return _shared(plan, self._chooser.shares(plan, measure).name, part)

    def explain(self, plans: Sequence[Plan]) -> tuple[str, list[str]]:
        """Return the number of shares, and the routine of each product, with the reasons."""
        count = self._chooser.shares_of(sum(plan.rows for plan in plans))
        routines = [self._chooser.routine(call) for call in plans[0].calls]
        if self._split_by_units(plans):
            tiles = Choice("tiles", "for shares by units")
            routines = [choice and tiles for choice in routines]
        return (
            f"shares of a step: {count}; threads: {self.threads} at most",
            [f"by {choice}" if choice else "" for choice in routines],
        )

    def choices(self) -> Choices:
        """Return the choices that are not the user's."""
        return self._chooser.record()

    def restore_choices(self, choices: Choices) -> None:
        """Choose as :meth:`choices` of an earlier backend says.

        Raises:
            InputError: it names a routine that there is not, or more shares than threads.
        """
        self._chooser.restore(choices)

    def prepare(self, plans: Sequence[Plan]) -> NumbaExecutable:
        """Return plans made ready to run."""
        by_units = len(plans) > 1 and bool(plans[0].update) and self._split_by_units(plans)
        return NumbaExecutable(self, plans, by_units=by_units)

    def _split_by_units(self, plans: Sequence[Plan]) -> bool:
        return "units" in self._chooser.shares_of(sum(plan.rows for plan in plans)).name


def _shared(plan: Plan, name: str, part: Callable[[Rows], Plan]) -> tuple[Plan, ...]:
    """Return the plans of a number of shares, which their name begins with."""
    count = int(name.split(maxsplit=1)[0])
    if count == 1:
        return (plan,)
    bounds = [plan.rows * number // count for number in range(count + 1)]
    return tuple(part(Rows(plan.rows, first, last - first)) for first, last in pairwise(bounds))


class NumbaExecutable(Executable):
    """Programs of bound shares, and the choice between one thread and several."""

    def __init__(
        self, backend: NumbaBackend, plans: Sequence[Plan], *, by_units: bool = False
    ) -> None:
        super().__init__(plans)
        self.writer = UnitWriter if by_units else Writer
        self.backend = backend
        self.shares = [Share(plan, backend.routine) for plan in plans]
        self._by_units = by_units
        self.layouts = tuple(share.layout for share in self.shares)
        self.pace = Pace(choice=len(plans) > 1)
        self._barrier = aligned(16, "int64")
        self._stop = False

    def bind(self, vectors: Vectors, data: Vectors) -> None:
        """Write the programs with the addresses of these arrays."""
        self._take_data(data)
        for number, share in enumerate(self.shares):
            share.bind(vectors, data, number)
        routines = {self.backend.routine(call) for plan in self.plans for call in plan.calls}
        self._with_blas = not self._by_units and bool(routines - {"", "tiles"})
        self._writer = self.writer(self.shares, self._barrier)
        self._serial = [self._writer.serial()]
        self._parallel = self._writer.parallel() if len(self.shares) > 1 else self._serial
        self.bound = True

    def release(self) -> None:
        """Let go of the arrays of the last :meth:`bind`."""
        super().release()
        for share in self.shares:
            share.vectors, share.data = {}, {}

    def run(self, steps: int) -> Outcome:
        """Run the steps, on one thread or several, whichever is the faster at the time."""
        done, self._stop = 0, False
        products = blas.one_thread() if self._with_blas else nullcontext()
        with stopping(self._request_stop), self.backend.busy.computing(), products:
            while done < steps and not self._stop:
                parallel, count = self.pace.choose(steps - done)
                start = time.perf_counter()
                outcome = self.segment(parallel, count)
                self.pace.note(parallel, count, time.perf_counter() - start)
                done += outcome.steps
                if outcome.reason != "finished":
                    return Outcome(done, outcome.reason)
        return Outcome(done, "stopped" if done < steps else "finished")

    def execute(self, index: int) -> float:
        """Run one call of the first plan."""
        row = self.shares[0].row(self.plan.calls[index])
        function = compiled.c_function(row.address)
        with blas.one_thread():
            start = time.perf_counter()
            function(row.words.ctypes.data)
            return time.perf_counter() - start

    def operand(self, buffer: Buffer) -> Array:
        """Return a buffer of the first plan as a view."""
        return self.shares[0].view(buffer)

    def segment(self, parallel: bool, steps: int) -> Outcome:
        """Run steps with the shares side by side on threads, or one after the other on one."""
        if parallel and not self.backend.team.ready(len(self._parallel)):
            parallel, self.pace = False, Pace(choice=False)
        programs = self._parallel if parallel else self._serial
        first, *others = (share.vectors[COUNTERS] for share in self.shares)
        for other in others:
            other[:] = first
        for program in programs:
            program.words[runner.STEPS] = steps
        self.backend.team.run([program.words for program in programs])
        words = programs[0].words
        return Outcome(int(words[runner.DONE]), _REASONS[int(words[runner.STATUS])])

    def _request_stop(self) -> None:
        self._stop = True


class Pace:
    """Chooses between one thread and several by what each took lately.

    Where other programs keep the processors busy, threads that wait for each other at every step
    are slower than one alone. The choice never changes a result, so it may follow the clock. Until
    it is made, and in runs that are too short to tell, it is for several.

    A thread that loses its processor loses it for milliseconds, longer than most runs of a trial.
    So a trial goes by its best runs, which says what a way can do; what it does shows in the runs
    that follow, short ones first. A way that did not keep what its trial promised is left, and the
    next time it is tried is twice as far away.
    """

    TRIAL_SECONDS = 0.004  # how long a way is tried, in runs of which each is twice the last
    TRIAL_RUNS = 50  # that are enough however short they are
    FIRST_SECONDS = 0.01  # of a way's first run after its trial, and of the one after a slow run
    RUN_SECONDS = 0.1  # how long the better way may run until the clock is looked at
    # Of running one way, after which the other is tried again at the earliest. That several threads
    # have become worse shows in their runs; that they would be better again, only in a trial.
    RETRY_SECONDS: ClassVar = {True: 1.0, False: 0.1}
    RETRY_SHARE = 0.02  # and how much of the time trials may waste
    MOST_DOUBLINGS = 6  # of that time, after trials that promised too much
    PAUSE_SECONDS = 0.02  # after which caches are cold and threads asleep: the next run says little
    WORSE = 1.5  # times as slow as the other way, or as before: clear without a longer look

    def __init__(self, *, choice: bool = True) -> None:
        self._ways = 2 if choice else 1
        self._cost: dict[bool, float] = {}  # seconds a step, by whether threads shared it
        self._trial: list[tuple[int, float]] | None = None  # its runs, as steps and seconds
        self._tried = choice  # which way the trial is of
        self._left = 0.0  # seconds to run before the next trial
        self._ended = -math.inf  # when the last run did
        self._cold = True
        self._seconds = self.FIRST_SECONDS  # of the next run
        self._slow = False  # whether the last run was
        self._broken = dict.fromkeys((True, False), 0)  # trials of a way that promised too much

    def choose(self, steps: int) -> tuple[bool, int]:
        """Return whether to share the next steps among threads, and how many to run so."""
        now = time.perf_counter()
        self._cold = now - self._ended > self.PAUSE_SECONDS
        if self._trial is None and (len(self._cost) < self._ways or self._left <= 0):
            self._trial = []
            if self._cost and self._ways == 2:
                self._tried = not self._best
        if self._trial is not None:
            return self._tried, min(steps, 2 * self._trial[-1][0] if self._trial else 1)
        seconds = min(self._seconds, self.TRIAL_SECONDS) if self._cold else self._seconds
        return self._best, max(1, min(steps, int(seconds / self._cost[self._best])))

    def note(self, parallel: bool, steps: int, seconds: float) -> None:
        """Take note of how long a number of steps took."""
        self._ended = time.perf_counter()
        self._left -= seconds
        if self._cold:
            return
        if self._trial is not None:
            self._trial.append((steps, seconds))
            self._judge()
        elif seconds >= self.TRIAL_SECONDS / 2:
            self._follow(parallel, seconds / steps)

    @property
    def _best(self) -> bool:
        return min(self._cost, key=lambda way: self._cost[way])

    def _follow(self, way: bool, cost: float) -> None:
        """Take note of a run of the chosen way; one that is slow says little, two in a row tell."""
        slow = cost > self.WORSE * self._cost[way]
        if not slow:
            self._cost[way] = (cost + self._cost[way]) / 2
        elif self._slow:
            self._cost[way] = cost
        if self._best != way:
            self._broken[way] = min(self._broken[way] + 1, self.MOST_DOUBLINGS)
            self._rest(0.0)
        elif self._seconds >= self.RUN_SECONDS and not slow:
            self._broken[way] = 0
        self._seconds = self.FIRST_SECONDS if slow else min(2 * self._seconds, self.RUN_SECONDS)
        self._slow = slow and not self._slow

    def _judge(self) -> None:
        """End the trial if it was long enough to go by, or is clearly worse.

        What counts is the best of its longer runs: the last may be what was left of an epoch, the
        first had threads to wake, and any may have lost its processor.
        """
        assert self._trial is not None  # it is one that is judged
        other = self._cost.get(not self._tried, math.inf)
        spent = sum(seconds for _, seconds in self._trial)
        longest = max(steps for steps, _ in self._trial)
        cost = min(seconds / steps for steps, seconds in self._trial if 8 * steps > longest)
        worse = cost > self.WORSE * other
        enough = spent >= self.TRIAL_SECONDS / (4 if worse else 1)
        telling = (
            max(seconds for _, seconds in self._trial) > self.TRIAL_SECONDS / 8
            or len(self._trial) >= self.TRIAL_RUNS
        )
        if len(self._trial) > 1 and enough and telling:
            before = self._best if self._cost else None
            self._cost[self._tried] = cost
            steps = sum(steps for steps, _ in self._trial)
            self._rest(max(0.0, spent - steps * self._cost[self._best]))
            self._trial = None
            if self._best != before:
                self._seconds, self._slow = self.FIRST_SECONDS, False

    def _rest(self, wasted: float) -> None:
        """Put off the next trial, which is of the way that is not chosen."""
        pause = self.RETRY_SECONDS[self._best] * 2 ** self._broken[not self._best]
        self._left = max(pause, wasted / self.RETRY_SHARE) if self._ways == 2 else math.inf
