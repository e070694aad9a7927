"""Runs a network's plans on a backend: training steps, evaluation, prediction.

The engine holds the vectors that outlive a step and a cache of executables, one for each kind of
plan, batch shape and data layout. It knows nothing of epochs, callbacks or files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from gpubp.backends import modes
from gpubp.backends.base import Array, Backend, Executable, Outcome
from gpubp.backends.window import Window
from gpubp.errors import DeviceMemoryError, InputError, NonFiniteError, unknown_name
from gpubp.feed import Data
from gpubp.kernels.contract import WIDE
from gpubp.losses import Loss
from gpubp.network import Sequential
from gpubp.optimizers import Optimizer
from gpubp.plan import build
from gpubp.plan.build import CORRECT, LOSS, SLOT, SQUARED_ERRORS, Inputs, Rows
from gpubp.plan.fuse import fuse
from gpubp.plan.ir import COUNTERS, COUNTS, GRADS, PARAMS, ROUNDED, SUMS, Buffer, Plan, describe
from gpubp.recent import Recent
from gpubp.streams import SHUFFLE

_CHUNK_SECONDS = 0.2  # how long a run may go on before progress is shown
EVALUATION_ROWS = 1024
_BLOCK_OUTPUTS = 1 << 22  # that are held at once where classes are told from them: some 16 MB

# Of a row of the data: its places in the epoch's order, and while that is drawn a few more numbers.
_ORDER_BYTES = 48
# Executables that are kept: of a run at most two minibatches and two lengths to evaluate, and the
# lengths that were predicted lately. Many lengths would fill the memory one by one.
_KEPT = {"least": 8, "most": 32, "room": 64 << 20}

_ROW, _STEP, _START, _SEED = range(4)  # in the vector of counters


@dataclass(frozen=True)
class Evaluation:
    """Sums over the rows of a data set."""

    rows: int
    loss: float
    correct: int
    squared_errors: float


class Engine:
    """A network with its parameters on a backend."""

    def __init__(
        self,
        backend: Backend,
        network: Sequential,
        loss: Loss,
        optimizer: Optimizer,
        regularization: build.Regularization,
        *,
        features: int,
        dtype: str,
        seed: int,
    ) -> None:
        self.backend = backend
        self.network = network
        self.loss = loss
        self.optimizer = optimizer
        self.regularization = regularization
        self.features = features
        self.dtype = dtype
        self.wide = WIDE[dtype]  # of parameters, gradients and the network's outputs
        self.layout = network.layout(features, backend.alignment)
        size = self.layout.size
        names = (PARAMS, GRADS, *optimizer.state)
        self.vectors = {name: backend.zeros(size, self.wide) for name in names}
        if dtype != self.wide:
            self.vectors[ROUNDED] = backend.zeros(size, dtype)
        self.vectors.update(self._own_counters())
        self.vectors[COUNTERS][_SEED] = seed
        self.seed = seed
        self.write(PARAMS, network.initial_parameters(features, seed))
        # The same parameters with counters of its own, for evaluation and prediction.
        self._sweeping = {**self.vectors, **self._own_counters()}
        self._loss_of_rows = 0.0  # of the rows of this epoch that are done
        self._executables: Recent[Executable] = Recent(lambda executable: executable.bytes, **_KEPT)

    def read(self, name: str) -> NDArray[Any]:
        """Return a copy of a vector over the parameters on the host, without gaps between them."""
        host = self.backend.to_host(self.vectors[name])
        return np.concatenate([host[self._part(p.name)] for p in self.layout.parameters])

    def write(self, name: str, values: NDArray[Any]) -> None:
        """Overwrite a vector over the parameters with what :meth:`read` would return."""
        vector = self.vectors[name]
        host = np.zeros(self.layout.size, self.wide)
        start = 0
        for parameter in self.layout.parameters:
            part = host[self._part(parameter.name)]
            part[:] = values[start : start + part.size]
            start += part.size
        vector[...] = self.backend.to_device(host)
        if name == PARAMS and ROUNDED in self.vectors:
            self.backend.call("round_bfloat16", [vector, self.vectors[ROUNDED]])

    def named(self, name: str) -> dict[str, NDArray[Any]]:
        """Return copies of the parts of a vector by their parameters' names, on the host."""
        host = self.backend.to_host(self.vectors[name])
        return {
            p.name: np.array(host[self._part(p.name)]).reshape(p.shape)
            for p in self.layout.parameters
        }

    def write_named(self, name: str, values: Mapping[str, NDArray[Any]]) -> None:
        """Overwrite parts of a vector by their parameters' names.

        Raises:
            InputError: there is no parameter of a name, or a shape is another.
        """
        parts = self.named(name)
        for parameter, value in values.items():
            if parameter not in parts:
                raise unknown_name("parameter", parameter, parts)
            if np.shape(value) != parts[parameter].shape:
                raise InputError(
                    f"{parameter} has shape {parts[parameter].shape}, got {np.shape(value)}"
                )
            check_values(parameter, value, self.wide)
        new = [np.ravel(values.get(parameter, old)) for parameter, old in parts.items()]
        self.write(name, np.concatenate(new))

    def check_finite(self) -> None:
        """Check that the parameters and the optimizer's state are finite.

        An update can overflow although the loss of its step was finite, and then no loss tells
        before the next step; and where the squares of gradients overflow, nothing moves any more.

        Raises:
            NonFiniteError: one is not, the first is named.
        """
        names = (PARAMS, *self.optimizer.state)
        if self.backend.finite(*(self.vectors[name] for name in names)):
            return
        for name in names:
            if not self.backend.finite(self.vectors[name]):
                raise NonFiniteError(
                    f"{self._first_not_finite(name)} is not finite after step {self.step}: an "
                    "update overflowed, although the loss of its step was finite",
                    spoiled=True,
                )

    def _first_not_finite(self, vector: str) -> str:
        """Return where in a vector over the parameters the first value is that is not finite."""
        of = "" if vector == PARAMS else f"the optimizer's {vector} of "
        for name, part in self.named(vector).items():
            if not np.isfinite(part).all():
                return f"{of}parameter {name}{self._layer(name)}"
        return f"{of}a parameter"

    def permutation(self, count: int, stream: int, step: int) -> Array:
        """Return 0 to count - 1 in an order drawn by the seed: the same on every backend."""
        return self.backend.shuffle(count, stream)(self.seed, step)

    def orders(self, rows: Array | None, count: int, shuffle: bool) -> Callable[[int], Array]:
        """Return what gives ``rows``, or 0 to count - 1, in the order in which an epoch takes them.

        The next call may overwrite the array that it returned.
        """
        xp = self.backend.xp
        if not shuffle:
            plain = xp.arange(count, dtype=xp.int64) if rows is None else rows
            return lambda epoch: plain
        draw = self.backend.shuffle(count, SHUFFLE)
        if rows is None:
            return lambda epoch: draw(self.seed, epoch)
        return lambda epoch: xp.take(rows, draw(self.seed, epoch), axis=0)

    def training_plan(self, data: Inputs, batch_size: int) -> Plan:
        """Return the plan of one training step on a whole minibatch, fused as the backend likes."""
        return self._plan("training", data, Rows(batch_size), False)

    def explain(self, data: Inputs, batch_size: int) -> str:
        """Return the plan of one training step as text, with how the backend computes it."""
        head, remarks = self.backend.explain(self._plans("training", data, batch_size, False))
        return describe(self.training_plan(data, batch_size), head, remarks)

    def check_memory(self, data: Data, batch_size: int) -> int:
        """Return the bytes of device memory that training takes beside data and parameters.

        What it needs at least are these and two minibatches of the data.

        Raises:
            DeviceMemoryError: there are not so many; said is how many, and which minibatch fits.
        """

        def least(rows: int) -> int:
            return self._memory(data, rows) + data.least_bytes(self.backend, rows)

        need, free = least(batch_size), self.backend.free_memory()
        if need <= free:
            return self._memory(data, batch_size)
        fitting = 0
        for bit in reversed(range(batch_size.bit_length())):
            larger = fitting + (1 << bit)
            if larger < batch_size and least(larger) <= free:
                fitting = larger
        remedy = (
            f"the largest batch_size that fits is {fitting}"
            if fitting
            else "no batch_size fits; use a smaller network, or precision='bf16'"
        )
        raise DeviceMemoryError(
            f"training with batch_size {batch_size} needs {need:,} bytes of device memory beside "
            f"the parameters, room for two minibatches of the data included, and {int(free):,} are "
            f"free; {remedy}"
        )

    def _memory(self, data: Data, batch_size: int) -> int:
        """Return the bytes that plans, and the order of the rows, need and do not have yet."""
        sizes = [("training", size) for size, _ in _parts(data.size, batch_size)]
        sizes += [("evaluation", size) for size, _ in _parts(data.size, EVALUATION_ROWS)]
        return self._plans_memory(data, sizes) + _ORDER_BYTES * data.size

    def _plans_memory(self, data: Data, kinds: Sequence[tuple[str, int]]) -> int:
        if math.isinf(self.backend.free_memory()):
            return 0
        return sum(
            self.backend.memory_of(self._plan(kind, data.inputs, Rows(size), True))
            for kind, size in kinds
            if (kind, data.inputs, size, True) not in self._executables
        )

    def release(self, *kinds: str) -> None:
        """Let go of the data that plans of these kinds were bound to; of all kinds, if none."""
        for key, executable in self._executables.items():
            if not kinds or key[0] in kinds:
                executable.release()

    def prepare(self, data: Data, rates: Array, batch_size: int) -> None:
        """Make all ready for :meth:`train` with the same arguments, compilation included."""
        for size, _ in _parts(data.size, batch_size):
            self._bound(data, {**data.arrays(), "rates": rates}, size)

    def train(
        self, data: Data, rates: Array, batch_size: int, on_progress: Callable[[int, float], None]
    ) -> float:
        """Run the steps of an epoch from the row counter on; return the mean loss over the rows.

        The epoch is over when :meth:`rewind` is called: until then it can be called again.

        ``on_progress(steps, loss)`` is called with the finished steps of this epoch and their mean
        loss, a few times a second at most.

        Raises:
            NonFiniteError: the loss of a step is NaN or infinite; parameters are those before it.
            KeyboardInterrupt: as raised, after the step under way.
        """
        arrays = {**data.arrays(), "rates": rates}
        for size, end in _parts(data.size, batch_size):
            if self.row > end:
                continue
            first, steps = self.row, (end - self.row) // size
            executable = self._bound(data, arrays, size)
            loss = None
            for done, outcome in self._chunks(executable, data.window, size, steps):
                rows = first + done * size
                if outcome.reason == "not finite":
                    raise self._not_finite(data, arrays, size, rows // batch_size)
                loss = self._loss_of_rows + self._sum(LOSS) * size
                on_progress(-(-rows // batch_size), loss / rows)
            if loss is None:  # taken up again where only this was left to do
                loss = self._loss_of_rows + self._sum(LOSS) * size
            self._loss_of_rows = loss
            self.vectors[SUMS][...] = 0
        return self._loss_of_rows / data.size

    def validate(self, data: Data, batch_size: int) -> None:
        """Run a step on copies, each call against the float64 reference.

        Raises:
            PlanError: a call is off; the first is named.
        """
        rates = self.backend.zeros(1, "float64")
        rates[...] = self.optimizer.lr
        modes.validate(self._first_epoch(data, rates, batch_size), self.backend)

    def trace(self, data: Data, batch_size: int) -> modes.Trace:
        """Time each call over the steps of an epoch on copies."""
        steps = data.size // batch_size
        rates = self.backend.zeros(steps, "float64")
        rates[...] = self.optimizer.lr
        return modes.trace(self._first_epoch(data, rates, batch_size), steps)

    def _first_epoch(self, data: Data, rates: Array, batch_size: int) -> Executable:
        rows = self.orders(data.rows, data.size, True)(0)
        arrays = {**data.arrays(), "permutation": rows, "rates": rates}
        return self._on_copies(data, arrays, batch_size, 0, self.step)

    def evaluate(self, data: Data) -> Evaluation:
        """Return the sums over a data set, by the network as it is in use (no dropout)."""
        self._sweep("evaluation", data, data.arrays())
        loss, errors = (self._sum(buffer, self._sweeping) for buffer in (LOSS, SQUARED_ERRORS))
        return Evaluation(data.size, loss, int(self._sum(CORRECT, self._sweeping)), errors)

    @property
    def block_rows(self) -> int:
        """How many rows to predict at a time, if their outputs are not what is wanted."""
        outputs = EVALUATION_ROWS * self.network.outputs(self.features)
        return EVALUATION_ROWS * max(1, _BLOCK_OUTPUTS // outputs)

    def predict(self, data: Data, *, link: bool) -> Array:
        """Return the network's outputs for the rows of a data set, or its predictions."""
        outputs = self.network.outputs(self.features)
        xp = self.backend.xp
        out = xp.reshape(self.backend.zeros(data.size * outputs, self.wide), (data.size, outputs))
        self._sweep("prediction" if link else "output", data, {**data.arrays(), "out": out})
        return out

    def placed(self, data: Data, kind: str) -> Data:
        """Return data to be evaluated or predicted where they are computed on.

        Raises:
            DeviceMemoryError: not even two minibatches fit beside the plan.
        """
        sizes = [size for size, _ in _parts(data.size, EVALUATION_ROWS)]
        reserve = self._plans_memory(data, [(kind, size) for size in sizes])
        reserve += 8 * data.size * self.network.outputs(self.features)
        return data.placed(self.backend, EVALUATION_ROWS, reserve)

    def _sweep(self, kind: str, data: Data, arrays: dict[str, Array]) -> None:
        """Run the plan of a kind over all rows once."""
        if data.window is not None:
            data.window.begin()
        for name in (COUNTERS, SUMS, COUNTS):
            self._sweeping[name][...] = 0
        row = 0
        for size, end in _parts(data.size, EVALUATION_ROWS):
            executable = self._executable(kind, data.inputs, size, data.rows is not None)
            if not executable.is_bound_to(arrays):
                executable.bind(self._sweeping, arrays)
            while row < end:
                reached = end if data.window is None else min(end, data.window.reach(row))
                executable.run((reached - row) // size)
                row = reached

    def counter(self, index: int) -> int:
        """Return one of the counters: row, step, start of the epoch, seed."""
        return int(self.vectors[COUNTERS][index])

    def begin_epoch(self, first_step: int) -> None:
        """Say which step the epoch's first one is, that of ``rates[0]``."""
        self.vectors[COUNTERS][_START] = first_step

    def rewind(self) -> None:
        """End an epoch, or forget one that was left half way."""
        self.vectors[COUNTERS][_ROW] = 0
        self.vectors[SUMS][...] = 0
        self._loss_of_rows = 0.0

    def progress(self) -> dict[str, Any]:
        """Return where the training is, for a checkpoint."""
        sums = self.backend.to_host(self.vectors[SUMS][LOSS.offset :: SLOT])
        return {
            "step": self.step, "row": self.row, "loss_of_rows": self._loss_of_rows,
            "sums": [float(value) for value in sums],
        }  # fmt: skip

    def restore_progress(self, progress: Mapping[str, Any]) -> None:
        """Go on from what :meth:`progress` returned, if need be with another number of shares."""
        self.vectors[COUNTERS][_STEP] = int(progress["step"])
        self.vectors[COUNTERS][_ROW] = int(progress["row"])
        self.vectors[SUMS][...] = 0
        for share, value in enumerate(progress["sums"]):
            self.vectors[SUMS][share % self.backend.max_shares * SLOT + LOSS.offset] += value
        self._loss_of_rows = float(progress["loss_of_rows"])

    @property
    def step(self) -> int:
        """The number of updates so far."""
        return self.counter(_STEP)

    @property
    def row(self) -> int:
        """The rows of the current epoch that are done."""
        return self.counter(_ROW)

    def _part(self, parameter: str) -> slice:
        buffer = self.layout.buffer(parameter, self.wide)
        return slice(buffer.offset, buffer.offset + buffer.size)

    def _own_counters(self) -> dict[str, Array]:
        zeros, shares = self.backend.zeros, self.backend.max_shares
        return {
            COUNTERS: zeros(4, "int64"),
            SUMS: zeros(SLOT * shares, "float64"),
            COUNTS: zeros(SLOT * shares, "int64"),
        }

    def _sum(self, buffer: Buffer, vectors: Mapping[str, Array] | None = None) -> float:
        """Return a sum or count over all shares."""
        flat = (self.vectors if vectors is None else vectors)[buffer.region]
        return float(self.backend.xp.sum(flat[buffer.offset :: SLOT]))

    def _chunks(
        self, executable: Executable, window: Window | None, size: int, steps: int
    ) -> Iterator[tuple[int, Outcome]]:
        """Run ``steps`` steps in runs that take a fair while each, as far as is known by now."""
        done, first = 0, self.row
        while done < steps:
            here = steps  # as far as the rows are on the device
            if window is not None:
                here = min(steps, (window.reach(first + done * size) - first) // size)
            chunk = max(1, min(here - done, executable.steps_in(_CHUNK_SECONDS)))
            outcome = executable.timed_run(chunk)
            done += outcome.steps
            yield done, outcome

    def _plan(self, kind: str, inputs: Inputs, rows: Rows, indexed: bool) -> Plan:
        training = kind == "training"
        builder = build.Builder(self.layout, self.dtype, rows, inputs, training=training)
        layers = self.network.layers
        if training:
            args = (layers, self.loss, self.optimizer, builder, self.regularization)
            plan = build.training_plan(*args)
        elif kind == "evaluation":
            plan = build.evaluation_plan(layers, self.loss, builder, indexed=indexed)
        else:
            loss = self.loss if kind == "prediction" else None
            plan = build.prediction_plan(layers, loss, builder, indexed=indexed)
        return fuse(plan, self.backend.has)

    def _executable(self, kind: str, inputs: Inputs, rows: int, indexed: bool) -> Executable:
        """Return the executable for a kind of plan, made at first need."""

        def make() -> Executable:
            return self.backend.prepare(self._plans(kind, inputs, rows, indexed))

        return self._executables.get_or_make((kind, inputs, rows, indexed), make)

    def _plans(self, kind: str, inputs: Inputs, rows: int, indexed: bool) -> Sequence[Plan]:
        """Return the plans of a kind for the shares of a minibatch."""

        def part(share: Rows) -> Plan:
            return self._plan(kind, inputs, share, indexed)

        return self.backend.split(part(Rows(rows)), part)

    def _bound(self, data: Data, arrays: dict[str, Array], rows: int) -> Executable:
        """Return the training step of a minibatch, bound to the vectors and to these arrays."""
        executable = self._executable("training", data.inputs, rows, True)
        if not executable.is_bound_to(arrays):
            executable.bind(self.vectors, arrays)
        return executable

    def _on_copies(
        self, data: Data, arrays: dict[str, Array], rows: int, first_row: int, first_step: int
    ) -> Executable:
        """Return a training step of one share that works on copies of the vectors."""
        copies = {
            name: array_namespace(vector).asarray(vector, copy=True)
            for name, vector in self.vectors.items()
        }
        copies[COUNTERS][_ROW], copies[COUNTERS][_START] = first_row, first_step
        executable = self.backend.prepare([self._plan("training", data.inputs, Rows(rows), True)])
        executable.bind(copies, arrays)
        return executable

    def _not_finite(
        self, data: Data, arrays: dict[str, Array], rows: int, step: int
    ) -> NonFiniteError:
        """Repeat the failing step call by call to find the first result that is not finite."""
        executable = self._on_copies(data, arrays, rows, self.row, self.counter(_START))
        for name in self.layout.offsets:
            if not self._finite(executable, self.layout.buffer(name, self.wide)):
                where = f"already in parameter {name}{self._layer(name)}, by the update before"
                spoiled = True
                break
        else:
            where, spoiled = "in the sum of the loss over the rows", False
            plan = executable.plan
            for index, call in enumerate(plan.forward + plan.backward):
                executable.execute(index)
                bad = [b for b in call.writes() if not self._finite(executable, b)]
                if bad:
                    names = ", ".join(buffer.name for buffer in bad)
                    where = f"in {names}{self._layer(bad[-1].name)}, computed as {call.formula}"
                    break
        return NonFiniteError(
            f"step {step + 1} of the epoch: the loss is not finite, first {where}", spoiled=spoiled
        )

    def _layer(self, name: str) -> str:
        """Return which layer a buffer such as ``z3`` or ``dW1`` belongs to, in words."""
        number = re.search(r"\d+", name)
        if number is None:
            return ""
        position = int(number.group())
        return f" of layer {position}, {self.network.layers[position - 1].brief()}"

    def _finite(self, executable: Executable, buffer: Buffer) -> bool:
        array = executable.operand(buffer)
        xp = array_namespace(array)
        if buffer.dtype == "bfloat16":  # its bits: all ones in the exponent is what is not finite
            return bool(xp.all(array & 0x7F80 != 0x7F80))
        if not xp.isdtype(array.dtype, "real floating"):
            return True
        return bool(xp.all(xp.isfinite(array)))


def check_values(name: str, value: Any, dtype: str) -> None:
    """Check that values can be parameters: real numbers that are finite, in the dtype, too.

    Raises:
        InputError: they can't; the first is named.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} has dtype {array.dtype}, but parameters are real numbers")
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(~np.isfinite(array.astype(dtype)))
    if bad.size:
        place = tuple(int(i) for i in np.unravel_index(int(bad[0]), array.shape))
        raise InputError(
            f"{name} has {array[place]} at {place}, which is not a finite {dtype}; parameters are "
            "finite"
        )


def _parts(rows: int, batch_size: int) -> list[tuple[int, int]]:
    """Return the sizes of an epoch's minibatches, each with the row where minibatches of it end."""
    rest = rows % batch_size
    parts = [(batch_size, rows - rest), (rest, rows)]
    return [(size, end) for size, end in parts if size and end]
