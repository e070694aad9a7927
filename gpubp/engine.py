"""Runs a network's plans on a backend: training steps, evaluation, prediction.

The engine holds the vectors that outlive a step and a cache of executables, one for each kind of
plan, batch shape and data layout. It knows nothing of epochs, callbacks or files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from gpubp.backends import modes
from gpubp.backends.base import Array, Backend, Executable, Outcome
from gpubp.errors import InputError, NonFiniteError, unknown_name
from gpubp.kernels.contract import dtype_name
from gpubp.losses import Loss
from gpubp.network import Sequential
from gpubp.optimizers import Optimizer
from gpubp.plan import build
from gpubp.plan.build import CORRECT, LOSS, SLOT, SQUARED_ERRORS, Inputs, Rows
from gpubp.plan.fuse import fuse
from gpubp.plan.ir import COUNTERS, COUNTS, GRADS, PARAMS, SUMS, Buffer, Plan
from gpubp.streams import SHUFFLE

_CHUNK_SECONDS = 0.2  # how long a run may go on before progress is shown
_EVALUATION_ROWS = 1024

_ROW, _STEP, _START, _SEED = range(4)  # in the vector of counters


@dataclass(frozen=True)
class Data:
    """Checked arrays on the device; ``rows`` (int64) picks and orders rows, None takes all."""

    x: Array
    y: Array | None = None
    weights: Array | None = None
    rows: Array | None = None

    @property
    def size(self) -> int:
        """The number of rows."""
        chosen = self.x if self.rows is None else self.rows
        return int(chosen.shape[0])

    @property
    def inputs(self) -> Inputs:
        """What a plan has to know of the arrays."""
        weights = "" if self.weights is None else dtype_name(self.weights.dtype)
        if self.y is None:
            return Inputs(self.x.shape[1], dtype_name(self.x.dtype))
        y_dtype = dtype_name(self.y.dtype)
        labels = len(self.y.shape) == 1
        return Inputs(
            self.x.shape[1], dtype_name(self.x.dtype), "labels" if labels else "values",
            0 if labels else self.y.shape[1], y_dtype, weights,
        )  # fmt: skip

    def arrays(self) -> dict[str, Array]:
        """Return the arrays by the names that plans give them."""
        named = {"X": self.x, "y": self.y, "weights": self.weights, "permutation": self.rows}
        return {name: array for name, array in named.items() if array is not None}


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
        self.layout = network.layout(features)
        size = self.layout.size
        names = (PARAMS, GRADS, *optimizer.state)
        self.vectors = {name: backend.zeros(size, dtype) for name in names}
        self.vectors.update(self._own_counters())
        self.vectors[COUNTERS][_SEED] = seed
        self.seed = seed
        self.write(PARAMS, network.initial_parameters(features, seed))
        self._loss_of_rows = 0.0  # of the rows of this epoch that are done
        self._executables: dict[tuple[object, ...], Executable] = {}

    def read(self, name: str) -> NDArray[Any]:
        """Return a copy of a vector on the host."""
        return np.array(self.backend.to_host(self.vectors[name]))

    def write(self, name: str, values: NDArray[Any]) -> None:
        """Overwrite a vector with values from the host, converted to its dtype."""
        vector = self.vectors[name]
        host = np.asarray(values).astype(dtype_name(vector.dtype), copy=False)
        vector[...] = self.backend.to_device(host)

    def named(self, name: str) -> dict[str, NDArray[Any]]:
        """Return copies of the parts of a vector by their parameters' names, on the host."""
        flat = self.read(name)
        return {p.name: flat[self._part(p.name)].reshape(p.shape) for p in self.layout.parameters}

    def write_named(self, name: str, values: Mapping[str, NDArray[Any]]) -> None:
        """Overwrite parts of a vector by their parameters' names.

        Raises:
            InputError: there is no parameter of a name, or a shape is another.
        """
        flat = self.read(name)
        shapes = {p.name: p.shape for p in self.layout.parameters}
        for parameter, value in values.items():
            if parameter not in shapes:
                raise unknown_name("parameter", parameter, shapes)
            if np.shape(value) != shapes[parameter]:
                raise InputError(
                    f"{parameter} has shape {shapes[parameter]}, got {np.shape(value)}"
                )
            flat[self._part(parameter)] = np.asarray(value).ravel()
        self.write(name, flat)

    def permutation(self, count: int, stream: int, step: int) -> Array:
        """Return 0 to count - 1 in an order drawn by the seed: the same on every backend.

        Every index gets a random 32-bit key, with itself below it to make it unique; the order is
        that of the keys.
        """
        xp = self.backend.xp
        bits = xp.empty(count, dtype=xp.uint32)
        key = [xp.asarray([value], dtype=xp.int64) for value in (self.seed, step)]
        self.backend.call("random_bits", [*key, bits], stream=stream)
        high = xp.astype(bits, xp.uint64) * xp.asarray(1 << 32, dtype=xp.uint64)
        keys = xp.sort(high + xp.arange(count, dtype=xp.uint64))
        return xp.astype(keys & xp.asarray(0xFFFFFFFF, dtype=xp.uint64), xp.int64)

    def order(self, rows: Array | None, count: int, epoch: int, shuffle: bool) -> Array:
        """Return ``rows``, or 0 to count - 1, in the order in which an epoch takes them."""
        xp = self.backend.xp
        if not shuffle:
            return xp.arange(count, dtype=xp.int64) if rows is None else rows
        order = self.permutation(count, SHUFFLE, epoch)
        return order if rows is None else xp.take(rows, order, axis=0)

    def training_plan(self, data: Inputs, batch_size: int) -> Plan:
        """Return the plan of one training step on a whole minibatch, fused as the backend likes."""
        return self._plan("training", data, Rows(batch_size), False)

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
            for done, outcome in self._chunks(executable, steps):
                rows = first + done * size
                if outcome.reason == "not finite":
                    raise self._not_finite(data, arrays, size, rows // batch_size)
                loss = self._loss_of_rows + self._sum(LOSS) * size
                on_progress(-(-rows // batch_size), loss / rows)
            self._loss_of_rows += self._sum(LOSS) * size
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
        rows = self.order(data.rows, data.size, 0, True)
        arrays = {**data.arrays(), "permutation": rows, "rates": rates}
        return self._on_copies(data, arrays, batch_size, 0, self.step)

    def evaluate(self, data: Data) -> Evaluation:
        """Return the sums over a data set, by the network as it is in use (no dropout)."""
        own = {**self.vectors, **self._own_counters()}
        rest = data.size % _EVALUATION_ROWS
        for size, steps in ((_EVALUATION_ROWS, data.size // _EVALUATION_ROWS), (rest, 1)):
            if size and steps:
                indexed = data.rows is not None
                executable = self._executable("evaluation", data.inputs, size, indexed)
                executable.bind(own, data.arrays())
                executable.run(steps)
        loss, errors = (self._sum(buffer, own) for buffer in (LOSS, SQUARED_ERRORS))
        return Evaluation(data.size, loss, int(self._sum(CORRECT, own)), errors)

    def predict(self, x: Array, *, link: bool) -> Array:
        """Return the network's outputs for the rows of x, or with ``link`` the predictions."""
        data = Data(x)
        own = {**self.vectors, **self._own_counters()}
        outputs = self.network.outputs(self.features)
        xp = self.backend.xp
        out = xp.reshape(self.backend.zeros(data.size * outputs, self.dtype), (data.size, outputs))
        row = 0
        for size, end in _parts(data.size, _EVALUATION_ROWS):
            kind = "prediction" if link else "output"
            executable = self._executable(kind, data.inputs, size, False)
            executable.bind(own, {**data.arrays(), "out": out})
            executable.run((end - row) // size)
            row = end
        return out

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
        buffer = self.layout.buffer(parameter, self.dtype)
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

    def _chunks(self, executable: Executable, steps: int) -> Iterator[tuple[int, Outcome]]:
        """Run ``steps`` steps in runs that take a fair while each, as far as is known by now."""
        done = 0
        while done < steps:
            chunk = max(1, min(steps - done, executable.steps_in(_CHUNK_SECONDS)))
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
            plan = build.prediction_plan(
                layers, self.loss if kind == "prediction" else None, builder
            )
        return fuse(plan, self.backend.has)

    def _executable(self, kind: str, inputs: Inputs, rows: int, indexed: bool) -> Executable:
        """Return the executable for a kind of plan, made at first need."""
        key = (kind, inputs, rows, indexed)
        if key not in self._executables:
            plans = [self._plan(kind, inputs, Rows(rows), indexed)]
            shares = self.backend.shares(plans[0])
            if len(shares) > 1:
                plans = [self._plan(kind, inputs, share, indexed) for share in shares]
            self._executables[key] = self.backend.prepare(plans)
        return self._executables[key]

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
            if not self._finite(executable.operand(self.layout.buffer(name, self.dtype))):
                where = f"already in parameter {name}{self._layer(name)}"
                break
        else:
            where = "in the sum of the loss over the rows"
            plan = executable.plan
            for index, call in enumerate(plan.forward + plan.backward):
                executable.execute(index)
                bad = [b for b in call.writes() if not self._finite(executable.operand(b))]
                if bad:
                    names = ", ".join(buffer.name for buffer in bad)
                    where = f"in {names}{self._layer(bad[-1].name)}, computed as {call.formula}"
                    break
        return NonFiniteError(
            f"step {step + 1} of the epoch: the loss is not finite, first {where}"
        )

    def _layer(self, name: str) -> str:
        """Return which layer a buffer such as ``z3`` or ``dW1`` belongs to, in words."""
        number = re.search(r"\d+", name)
        if number is None:
            return ""
        position = int(number.group())
        return f" of layer {position}, {self.network.layers[position - 1].brief()}"

    def _finite(self, array: Array) -> bool:
        xp = array_namespace(array)
        if not xp.isdtype(array.dtype, "real floating"):
            return True
        return bool(xp.all(xp.isfinite(array)))


def _parts(rows: int, batch_size: int) -> list[tuple[int, int]]:
    """Return the sizes of an epoch's minibatches, each with the row where minibatches of it end."""
    rest = rows % batch_size
    parts = [(batch_size, rows - rest), (rest, rows)]
    return [(size, end) for size, end in parts if size and end]
