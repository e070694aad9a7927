"""The trainer: data, epochs, callbacks and files around the engine that does the arithmetic."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from gpubp import backends, checkpoint, devices, intake, meaning, room, state
from gpubp.backends.modes import Trace
from gpubp.callbacks import Callback, Run, as_callbacks
from gpubp.data import check
from gpubp.data.admit import admit
from gpubp.devices import PRECISIONS
from gpubp.engine import Engine, check_values
from gpubp.epochs import Epochs
from gpubp.errors import CheckpointError, InputError, NonFiniteError
from gpubp.feed import Data
from gpubp.guard import Guard
from gpubp.history import History
from gpubp.interrupts import deferred
from gpubp.kernels.contract import WIDE
from gpubp.losses import LOSSES, Loss, SoftmaxCrossEntropy
from gpubp.metrics import metrics
from gpubp.network import Sequential
from gpubp.optimizers import OPTIMIZERS, Optimizer
from gpubp.plan.build import Inputs, Regularization
from gpubp.plan.ir import GRADS, PARAMS, Plan
from gpubp.schedules import SCHEDULES, Schedule
from gpubp.settings import whole_number

P = ParamSpec("P")
R = TypeVar("R")


def _on_device(
    method: Callable[Concatenate[Trainer, P], R],
) -> Callable[Concatenate[Trainer, P], R]:
    """Run a method in one thread at a time, with the trainer's device as the current one."""

    @wraps(method)
    def run(self: Trainer, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._guard.computing(), self._backend.active():
            return method(self, *args, **kwargs)

    return cast("Callable[Concatenate[Trainer, P], R]", run)


class Trainer:
    """Trains a network by minibatch backpropagation.

    The objective is the mean loss over a minibatch, plus l1 Σ|w| + l2/2 Σw² over the weights (not
    the biases). The learning rate of step t is ``optimizer.lr`` times the schedule's factor(t).

    Args:
        network: the layers.
        loss: a name of ``gpubp.losses.LOSSES`` or a loss.
        optimizer: a name of ``gpubp.optimizers.OPTIMIZERS`` or an optimizer.
        lr: the learning rate, in place of the optimizer's.
        schedule: a name of ``gpubp.schedules.SCHEDULES`` or a schedule.
        device: "auto", "cpu", "cuda" or "cuda:1"; "auto" also follows $GPUBP_DEVICE.
        backend: "cupy", "numba" or "numpy"; None takes the fastest that the device has.
        precision: "fp32", "fp64", "bf16", or on CUDA "tf32". bf16 computes with bfloat16 weights,
            activations and deltas; parameters, gradients, optimizer state and outputs are float32.
        seed: of initial weights, shuffles and dropout masks: the same on every backend.
        l1, l2: penalties on the weights.
        clip_norm: the largest norm of the whole gradient; None does not clip.
        clip_value: the largest size of a gradient's element; None does not clip.
        threads: how many threads may share a minibatch on the CPU; None takes one a core. Results
            depend on it in their last bits, as on the next three.
        gemm: what computes the matrix products of the numba backend: "tiles" (its own code),
            "blas" (SciPy's), "mkl" (if it is installed), or "auto", for each product the one that
            is measured to be the fastest, once a machine.
        shares: into how many shares the numba backend splits a minibatch, at most ``threads``; None
            goes by the operations of a step, and where that is not clear by measurement.
        share_by: by what: "rows" of the minibatch, "units" of each layer, or "auto", by what
            threads would have to send each other and by measurement.

    Raises:
        InputError: a name is unknown, a setting is out of its range, or the device lacks the
            precision.
        DeviceError: the device, the backend or MKL can't be had.
    """

    def __init__(
        self,
        network: Sequential,
        loss: str | Loss = "softmax_cross_entropy",
        optimizer: str | Optimizer = "adam",
        schedule: str | Schedule = "constant",
        *,
        lr: float | None = None,
        device: str = "auto",
        backend: str | None = None,
        precision: str = "fp32",
        seed: int = 0,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        threads: int | None = None,
        gemm: str = "auto",
        shares: int | None = None,
        share_by: str = "auto",
    ) -> None:
        if not isinstance(network, Sequential):
            raise InputError(f"network is a {type(network).__name__}, needs a gpubp.Sequential")
        number = whole_number(seed)
        if number is None or not 0 <= number < 2**63:
            raise InputError(f"seed must be a whole number from 0 to 2**63 - 1, got {seed!r}")
        self.network = network
        self.loss = LOSSES.get(loss)
        self.optimizer = OPTIMIZERS.get(optimizer)
        if lr is not None:
            self.optimizer = replace(self.optimizer, lr=lr)
        self.schedule = SCHEDULES.get(schedule)
        meaning.check_network(network, self.loss)
        self.seed = number
        self.regularization = Regularization(l1, l2, clip_value, clip_norm)
        self.threads, self.shares = backends.check(
            devices.cores() if threads is None else threads, gemm, shares, share_by
        )
        self.gemm, self.share_by = gemm, share_by
        self._guard = Guard()
        self._settle(devices.resolve(device, backend), precision)
        self._engine: Engine | None = None
        self._one_target = False  # it was trained on one target: predictions go out as a vector
        self.epoch = 0
        self.history = History()
        self.extra: dict[str, Any] = {}
        self.saved_to: str | None = None
        # The run that is under way, or was the last and may be taken up again.
        self._run: Run | None = None
        self._first_step = 0
        self._active_schedule = self.schedule.start()
        self._callbacks: list[Callback] = []
        self._callback_states: dict[str, dict[str, Any]] = {}

    def __repr__(self) -> str:
        return (
            f"Trainer({self.network!r}, loss={self.loss!r}, optimizer={self.optimizer!r}, "
            f"device={self.device!r}, backend={self.backend_name!r})"
        )

    def __reduce__(self) -> tuple[Callable[..., Trainer], tuple[Any, ...]]:
        """Pickle and copy what a model file holds, an interrupted run included."""
        with self._guard.computing():
            return state.revived, (type(self), self.device, self.saved_to, *state.kept(self))

    def _settle(self, choice: devices.Choice, precision: str) -> None:
        """Make a device, its backend and a precision those of this trainer."""
        devices.check_precision(choice, precision)
        self._backend = backends.create(
            choice.backend, self.threads,
            gemm=self.gemm, shares=self.shares, share_by=self.share_by,
            index=choice.index, precision=precision,
        )  # fmt: skip
        self.precision = precision
        self.device, self.backend_name = choice.device, choice.backend
        self.device_reason = choice.reason

    @property
    def step(self) -> int:
        """The number of updates so far."""
        with self._backend.active():
            return 0 if self._engine is None else self._engine.step

    @property
    def features(self) -> int | None:
        """The number of input features; None until there were data."""
        return None if self._engine is None else self._engine.features

    @_on_device
    def initialize(self, features: int) -> None:
        """Draw the initial weights for a number of input features; :meth:`fit` does it if need be.

        Raises:
            InputError: the network already has weights for another number of features.
            DeviceMemoryError: there is less memory than weights, gradients and optimizer need.
        """
        features = intake.count("features", features)
        if self._engine is None:
            room.check(
                self.network.layout(features, self._backend.alignment), self.optimizer,
                PRECISIONS[self.precision],
                on_host=self.device == "cpu", device=self._backend.free_memory(),
            )  # fmt: skip
            self._engine = Engine(
                self._backend, self.network, self.loss, self.optimizer, self.regularization,
                features=features, dtype=PRECISIONS[self.precision], seed=self.seed,
            )  # fmt: skip
        elif self._engine.features != features:
            raise InputError(
                f"the data have {features} features, the network was trained on "
                f"{self._engine.features}"
            )

    def fit(
        self,
        X: Any,
        y: Any,
        epochs: int = 1,
        batch_size: int | None = None,
        *,
        sample_weight: Any = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_fraction: float = 0.0,
        shuffle: bool = True,
        callbacks: Sequence[Callback | Callable[..., Any]] = (),
        resume: bool = False,
    ) -> History:
        """Train for some epochs.

        Args:
            X: (N, I) of any real dtype; C-contiguous is used in place, an ``np.memmap`` too.
                Values are converted to the working precision a minibatch at a time.
            y: (N,) class ids for softmax cross-entropy, or (N, K) distributions; (N,) or (N, K)
                values for the other losses.
            epochs: passes over the data; with ``resume`` the total of the run.
            batch_size: rows of a minibatch; what is left over at an epoch's end is a smaller one.
                None takes 32, or all rows if there are fewer.
            sample_weight: (N,) factors of the rows' losses; they are not normalised. 0 leaves a
                row out, whichever of the targets that the loss takes it has.
            validation_data: (X, y) or (X, y, sample_weight) to be evaluated after each epoch.
                Its loss is a mean over its rows times these weights, be the rows to train on
                weighted or not.
            validation_fraction: the part of the rows to be held out for that instead, from 0 to 1,
                drawn by the seed from those that weigh more than 0; they keep their
                ``sample_weight``.
            shuffle: whether each epoch has an order of its own, drawn by the seed.
            callbacks: :class:`gpubp.callbacks.Callback` objects, or functions ``f(trainer,
                record)`` called after each epoch that end the training by returning True.
            resume: go on with the last run, that of a loaded checkpoint too: an unfinished one, or
                with more ``epochs`` one that has ended. The result is bit for bit that of a run of
                so many epochs that was never interrupted; with a schedule that looks at the run's
                length (cosine, one_cycle), only if ``epochs`` is what the run began with.

        Returns:
            the history, one record an epoch.

        Raises:
            InputError: the data or an argument can't be used, or another thread, or a caller of
                this callback, is training this trainer.
            NonFiniteError: the loss became NaN or infinite, and the parameters are those of the
                last step before; or a parameter did, in an update of a finite loss: that is seen
                at the next step, and after the last one of an epoch.
            KeyboardInterrupt: on Ctrl-C, between two steps.
        """
        with self._guard.training(), self._guard.computing(), self._backend.active():
            return self._fit(
                X, y, epochs, batch_size, sample_weight, validation_data, validation_fraction,
                shuffle, callbacks, resume,
            )  # fmt: skip

    def _fit(
        self,
        X: Any,
        y: Any,
        epochs: int,
        batch_size: int | None,
        sample_weight: Any,
        validation_data: tuple[Any, ...] | None,
        validation_fraction: float,
        shuffle: bool,
        callbacks: Sequence[Callback | Callable[..., Any]],
        resume: bool,
    ) -> History:
        data = self._checked(X, y, sample_weight, fitting=True)
        engine = self._trained()
        data, validation = intake.split(data, validation_fraction, engine)
        if validation_data is not None:
            if validation is not None:
                raise InputError("give validation_data or validation_fraction, not both")
            validation = self._checked(*intake.validation(validation_data), fitting=False)
        epochs = intake.count("epochs", epochs)
        batch_size = intake.rows_of_minibatch(batch_size, data.size)
        self._callbacks = as_callbacks(callbacks)
        data, validation = intake.placed(engine, data, validation, batch_size)
        run = self._begin(data, epochs, batch_size, resume=resume)
        try:
            loop = Epochs(self, data, validation, run, shuffle)
            with deferred():
                self._run_epochs(loop, run)
        except NonFiniteError as error:
            self._run = None  # it would only fail again
            engine.rewind()  # the sums of its epoch are not finite
            loop.check_labels(on_device=True)
            raise self._explained(error) from None
        finally:
            # Kept for a save that follows, and for who takes the run up again.
            self._callback_states = {c.key: c.state() for c in self._callbacks if c.key}
            for callback in self._callbacks:
                callback.close()
            self._callbacks = []
            engine.release()
        return self.history

    def _run_epochs(self, epoch: Epochs, run: Run) -> None:
        """Run epochs until the last one, or until a callback ends the run."""
        # Every callback is asked, whatever another one answers.
        answers = [callback.on_fit_start(self, run) for callback in self._callbacks]
        while not any(answers) and self.epoch < run.last_epoch:
            record = epoch.run()
            answers = [callback.on_epoch_end(self, record) for callback in self._callbacks]
        for callback in self._callbacks:
            callback.on_fit_end(self)

    @_on_device
    def predict(self, X: Any) -> Any:
        """Return predictions for the rows of X (N, I).

        Returns:
            softmax cross-entropy: int64 class ids, (N,). Sigmoid cross-entropy: 0 or 1, int64, for
            each output, (N, K). Other losses: values, (N, K). (N, K) is (N,) where there is one
            output, unless the network was never trained: then it is (N, 1).

        Raises:
            InputError: X can't be used, or the network was not trained yet.
            NonFiniteError: an output of a classifier is NaN.
        """
        xp = self._backend.xp

        def decided(z: Any) -> Any:
            if bool(xp.any(xp.isnan(z))):
                raise NonFiniteError(
                    "the network's outputs are NaN, so no class can be told from them; its "
                    "parameters, or the values of X, are too large",
                )
            if isinstance(self.loss, SoftmaxCrossEntropy):
                return xp.argmax(z, axis=1)
            return self._shaped(xp.astype(z > 0, xp.int64))

        if self.loss.classifies:
            return self._outputs(X, decided, link=False)
        return self._shaped(self._outputs(X, link=True))

    @_on_device
    def predict_proba(self, X: Any) -> Any:
        """Return probabilities (N, K) for the rows of X (N, I), of a classifier.

        Softmax cross-entropy: of K classes, in the order of their ids; a row sums to 1. Sigmoid
        cross-entropy: of a 1 in each of K outputs, (N, 1) where there is one: that of a 0 is what
        is left to 1, and is no column.

        Raises:
            InputError: X can't be used, or the loss is not one of classification.
        """
        if not self.loss.classifies:
            raise InputError(
                f"loss {LOSSES.name_of(self.loss)!r} has no probabilities; use predict"
            )
        return self._outputs(X, link=True)

    @_on_device
    def forward(self, X: Any) -> Any:
        """Return the network's outputs (N, K), logits of a classifier, for rows X (N, I)."""
        return self._outputs(X, link=False)

    @_on_device
    def evaluate(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """Return the mean loss over rows, and "accuracy", or "rmse" and "r2", without weights.

        r2 is 1 - Σ(t - p)² / Σ(t - mean t)², NaN where the targets vary by rounding
        alone.

        Raises:
            InputError: the data can't be used.
        """
        engine = self._trained()
        data = self._checked(X, y, sample_weight, fitting=False)
        found = metrics(engine, engine.placed(data, "evaluation"))
        engine.release("evaluation")
        return found

    @_on_device
    def plan(self, batch_size: int) -> Plan:
        """Return the plan of a training step; printed, it is backpropagation for this network.

        Raises:
            InputError: the number of features is not known yet: call initialize or fit first.
        """
        rows = intake.count("batch_size", batch_size)
        return self._trained().training_plan(self._usual_inputs(), rows)

    @_on_device
    def explain(self, batch_size: int) -> str:
        """Return the plan of a training step as text, with how it is computed here, and why so.

        For the numba backend that is the number of shares of the minibatch, and what computes each
        product; the others leave no choice.

        Raises:
            InputError: the number of features is not known yet: call initialize or fit first.
        """
        return self._trained().explain(self._usual_inputs(), intake.count("batch_size", batch_size))

    @_on_device
    def trace(self, X: Any, y: Any, batch_size: int | None = None) -> Trace:
        """Time each kernel call of a training step over an epoch; printed, it is a table.

        The trainer stays as it was. On one thread, whatever ``threads`` is.

        Raises:
            InputError: the data can't be used.
        """
        return self._trained().trace(*self._one_minibatch(X, y, batch_size))

    @_on_device
    def validate(self, X: Any, y: Any, batch_size: int | None = None) -> None:
        """Run a training step, each kernel call beside its float64 reference; all stays as it was.

        Raises:
            PlanError: a call's result is off; the first is named.
            InputError: the data can't be used.
        """
        self._trained().validate(*self._one_minibatch(X, y, batch_size))

    @_on_device
    def parameters(self) -> NDArray[Any]:
        """Return a copy of the flat parameter vector, on the host."""
        return self._trained().read(PARAMS)

    @_on_device
    def set_parameters(self, vector: NDArray[Any]) -> None:
        """Overwrite the flat parameter vector.

        Raises:
            InputError: it has another length, or a value that is no finite number.
        """
        engine = self._trained()
        if np.shape(vector) != (engine.layout.count,):
            raise InputError(
                f"the parameter vector has shape ({engine.layout.count},), got {np.shape(vector)}"
            )
        check_values("the parameter vector", vector, engine.wide)
        engine.write(PARAMS, vector)

    @_on_device
    def named_parameters(self) -> dict[str, NDArray[Any]]:
        """Return copies of the parameters by name (W1, b1, ...), on the host."""
        return self._trained().named(PARAMS)

    @_on_device
    def named_gradients(self) -> dict[str, NDArray[Any]]:
        """Return copies of the last step's gradients by their parameters' names, on the host."""
        return self._trained().named(GRADS)

    @_on_device
    def set_named_parameters(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Overwrite some parameters by name.

        Raises:
            InputError: there is no parameter of a name, a shape is another, or a value is no finite
                number.
        """
        self._trained().write_named(PARAMS, values)

    @_on_device
    def save(self, path: str | os.PathLike[str], extra: dict[str, Any] | None = None) -> None:
        """Write the model with all that is needed to go on training it, whole or not at all.

        Args:
            path: the file, by convention ending in .safetensors.
            extra: JSON values to be kept with it, in place of ``self.extra``.

        Raises:
            SaveError: it can't be written; what was there before still is.
            NonFiniteError: a parameter is NaN or infinite: such a file would be of no use.
            InputError: nothing was trained yet.
        """
        self._trained().check_finite()
        if extra is not None:
            self.extra = extra
        checkpoint.save(path, *state.collect(self))
        self.saved_to = os.fspath(path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        backend: str | None = None,
        precision: str | None = None,
        threads: int | None = None,
        gemm: str | None = None,
        shares: int | None = None,
        share_by: str | None = None,
    ) -> Trainer:
        """Read a model file, from whatever device it was written.

        Precision, threads and how they share work are those that it was saved with, unless others
        are named, and what was chosen by measurement stays as it was. So is the backend if it can
        be had on the device; else it is the fastest that can be, and ``device_reason`` says why.

        Raises:
            CheckpointError: it is not there, damaged, foreign or of another version.
            DeviceError: the device, the backend or MKL can't be had.
            InputError: a name is unknown, or the device lacks the precision.
        """
        file = os.fspath(path)
        trainer = state.rebuild(
            cls, file, *checkpoint.load(path),
            device=device, backend=backend, precision=precision,
            threads=threads, gemm=gemm, shares=shares, share_by=share_by,
        )  # fmt: skip
        trainer.saved_to = file
        return trainer

    def to(
        self, device: str, backend: str | None = None, *, precision: str | None = None
    ) -> Trainer:
        """Move to another device with all state, a run that was interrupted included.

        Weights and the optimizer's vectors arrive bit for bit.

        Args:
            device, backend: as in the constructor.
            precision: another one from now on; None keeps it.

        Returns:
            this very trainer.

        Raises:
            InputError: a name is unknown, the device lacks the precision, or this was called by a
                callback of a run under way.
            DeviceError: the device or backend can't be had.
        """
        with self._guard.computing():
            return self._moved(devices.resolve(device, backend), precision or self.precision)

    def _moved(self, choice: devices.Choice, precision: str) -> Trainer:
        if self._callbacks:
            raise InputError("a trainer can't move during fit; call to() before or after it")
        moved = object.__new__(type(self))  # so that this one stays as it was if there is no room
        vars(moved).update(vars(self))
        moved._settle(choice, precision)
        choices = dict(self._backend.choices())
        if precision != self.precision:
            choices["shares"] = {}  # chosen for other plans
        moved._backend.restore_choices(choices)
        if self._engine is not None:
            moved._engine = None
            moved.initialize(self._engine.features)
            state.transfer(self._engine, moved._trained())
        vars(self).update(vars(moved))
        return self

    def _trained(self) -> Engine:
        if self._engine is None:
            raise InputError("the network has no weights yet; call fit, or initialize(features)")
        return self._engine

    def _usual_inputs(self) -> Inputs:
        """Return inputs of the working precision, without weights."""
        features = self._trained().features
        outputs = self.network.outputs(features)
        dtype = WIDE[PRECISIONS[self.precision]]
        if isinstance(self.loss, SoftmaxCrossEntropy):
            return Inputs(features, dtype, "labels", outputs)
        return Inputs(features, dtype, "values", outputs, dtype)

    def _outputs(self, X: Any, decided: Callable[[Any], Any] | None = None, *, link: bool) -> Any:
        """Return what the network makes of X, on the device if X is there, else on the host.

        With ``decided`` it is what that makes of the outputs, of which a block of rows is held at
        a time: there may be many times as many of them.
        """
        engine = self._trained()
        x = check.features(admit(X, self._backend, "X"), columns=engine.features)
        rows = int(x.shape[0])
        block = rows if decided is None else engine.block_rows

        def part(start: int) -> Any:
            data = engine.placed(Data(x[start : start + block]), "prediction")
            out = engine.predict(data, link=link)
            engine.release("prediction", "output")
            return out if decided is None else decided(out)

        parts = [part(start) for start in range(0, rows, block)]
        out = parts[0] if len(parts) == 1 else array_namespace(parts[0]).concat(parts)
        return out if self._backend.holds(x) else self._backend.to_host(out)

    def _shaped(self, out: Any) -> Any:
        return out[:, 0] if self._one_target and out.shape[1] == 1 else out

    def _checked(self, X: Any, y: Any, sample_weight: Any, *, fitting: bool) -> Data:
        """Return the user's arrays, checked, where they are."""
        data = intake.checked(
            self._backend, self.network, self.loss, X, y, sample_weight,
            columns=self.features, fitting=fitting,
        )  # fmt: skip
        self.initialize(int(data.x.shape[1]))
        if fitting:
            meaning.check_targets(self.network, self.loss, data.y, data.weights)
            self._one_target = data.inputs.target == "values" and data.inputs.outputs == 1
        return data

    def _one_minibatch(self, X: Any, y: Any, batch_size: int | None) -> tuple[Data, int]:
        """Return data of a minibatch at least, where they are computed on, and its rows."""
        data = self._checked(X, y, None, fitting=False)
        rows = intake.rows_of_minibatch(batch_size, data.size)
        return intake.placed(self._trained(), data, None, rows)[0], rows

    def _begin(self, data: Data, epochs: int, batch_size: int, *, resume: bool) -> Run:
        """Start a run, or take up the one that was interrupted."""
        engine = self._trained()
        steps = -(-data.size // batch_size)
        if not resume:
            self._run = Run(self.epoch, epochs, steps, batch_size, data.size)
            self._first_step = engine.step
            self._active_schedule = self.schedule.start()
            self._callback_states = {}
            engine.rewind()
            return self._run
        if self._run is None:
            raise InputError("there is no run to resume; call fit with resume=False")
        if (self._run.batch_size, self._run.rows) != (batch_size, data.size):
            raise InputError(
                f"the interrupted run had batch size {self._run.batch_size} and {self._run.rows} "
                f"rows to train on, not {batch_size} and {data.size}; resume it with the same data"
            )
        if epochs < self.epoch - self._run.first_epoch:
            raise InputError(
                f"the run has done {self.epoch - self._run.first_epoch} epochs, more than "
                f"epochs={epochs}; with resume that is the total of the run"
            )
        for callback in self._callbacks:
            if callback.key in self._callback_states:
                self._restore_callback(callback)
        self._run = replace(self._run, epochs=epochs)
        return self._run

    def _restore_callback(self, callback: Callback) -> None:
        try:
            callback.restore(self._callback_states[callback.key])
        except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"the state of callback {callback.key!r} is not one of this version "
                f"({type(error).__name__}: {error}); call fit with resume=False"
            ) from error

    def _explained(self, error: NonFiniteError) -> NonFiniteError:
        """Return the error with where in the run it happened, the remedies and what is safe."""
        kept = (
            f"The last good checkpoint is {self.saved_to}"
            if self.saved_to
            else "No checkpoint was kept; callbacks=[Checkpoint(path)] keeps one"
        )
        state = "of no use any more" if error.spoiled else "those of the step before"
        return NonFiniteError(
            f"epoch {self.epoch + 1}, {error}. The parameters are {state}. Usual remedies: a lower "
            f"learning rate (now {self.optimizer.lr:g}), clip_norm=1.0, standardised inputs and "
            f"targets. {kept}.",
            spoiled=error.spoiled,
        )
