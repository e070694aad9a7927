"""What of a trainer is kept in a model file, and the trainer that a model file describes.

Parameters are stored by name, the optimizer's vectors whole, the history by columns: the document
names them, tensor ``history.n`` is the n-th, int64 or float64, and ``history.n.there`` says where
it has numbers, unless it has them everywhere. Names in a file are looked up in the library's closed
tables and nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubp import backends, devices
from gpubp import document as checks
from gpubp.errors import CheckpointError, DeviceMemoryError, InputError, unknown_name
from gpubp.history import History
from gpubp.losses import LOSSES
from gpubp.network import Sequential
from gpubp.optimizers import OPTIMIZERS
from gpubp.plan.ir import GRADS, PARAMS
from gpubp.schedules import SCHEDULES

if TYPE_CHECKING:
    from gpubp.engine import Engine
    from gpubp.trainer import Trainer

Tensors = dict[str, NDArray[Any]]

# How threads share work: what the names of the document and of a trainer's arguments are.
_SHARING = ("threads", "gemm", "shares", "share_by")

_STATE = "optimizer."  # prefixes of the tensors that are not parameters
_CALLBACK = "callback."
_HISTORY = "history."


def collect(trainer: Trainer) -> tuple[Tensors, dict[str, Any]]:
    """Return tensors and document of a trainer.

    Raises:
        InputError: it has no weights yet, or is what could not be read again.
    """
    engine = trainer._trained()
    tensors, values = _tensors(trainer, engine)
    document = _described(trainer) | {
        "features": engine.features,
        "one_target": trainer._one_target,
        "choices": trainer._backend.choices(),
        "epoch": trainer.epoch,
        "progress": engine.progress(),
        "run": None if trainer._run is None else dataclasses.asdict(trainer._run),
        "first_step": trainer._first_step,
        "schedule_state": trainer._active_schedule.state(),
        "callbacks": values,
        "history": _outline(trainer.history),
        "extra": trainer.extra,
    }
    try:
        checks.check(document)
    except InputError as error:
        raise InputError(f"this trainer can't be kept in a file: {error}") from error
    return tensors | _columns(trainer.history), document


def _outline(history: History) -> dict[str, Any]:
    """Return what the document says of a history: records that are all empty are not kept."""
    return {"records": len(history) if history.names else 0, "columns": history.names}


def _columns(history: History) -> Tensors:
    """Return the columns of a history by their numbers: any text may be the name of one."""
    tensors: Tensors = {}
    for number, (values, there) in enumerate(history.columns().values()):
        tensors[f"{_HISTORY}{number}"] = values
        if there is not None:
            tensors[f"{_HISTORY}{number}.there"] = there
    return tensors


def _history(tensors: Tensors, kept: Mapping[str, Any] | list[dict[str, float]]) -> History:
    """Return the history of a document, which in format 1 has its records itself."""
    if isinstance(kept, list):
        return History.from_records(kept)
    columns = {
        name: (tensors[f"{_HISTORY}{number}"], tensors.get(f"{_HISTORY}{number}.there"))
        for number, name in enumerate(kept["columns"])
    }
    return History.from_columns(kept["records"], columns)


def kept(trainer: Trainer) -> tuple[Tensors, dict[str, Any]]:
    """Return tensors and document of a trainer as :func:`collect`, or before it has weights."""
    if trainer._engine is not None:
        return collect(trainer)
    return {}, _described(trainer) | {"extra": trainer.extra}


def revived(
    kind: type[Trainer],
    device: str,
    saved_to: str | None,
    tensors: Tensors,
    document: Mapping[str, Any],
) -> Trainer:
    """Return the trainer of which :func:`kept` was taken, on a device of that name.

    Raises:
        DeviceError: the device or the backend can't be had.
    """
    backend, precision = document["backend"], document["precision"]
    if tensors:
        trainer = rebuild(
            kind, "the copy", tensors, document,
            device=device, backend=backend, precision=precision,
            threads=None, gemm=None, shares=None, share_by=None,
        )  # fmt: skip
    else:
        trainer = kind(**_settings(document), device=device, backend=backend, precision=precision)
        trainer.extra = dict(document["extra"])
    trainer.saved_to = saved_to
    return trainer


def _tensors(trainer: Trainer, engine: Engine) -> tuple[Tensors, dict[str, dict[str, Any]]]:
    """Return all arrays, and what callbacks keep beside them."""
    tensors: Tensors = engine.named(PARAMS)
    tensors |= {_STATE + name: engine.read(name) for name in trainer.optimizer.state}
    callbacks = {c.key: c.state() for c in trainer._callbacks if c.key}
    values: dict[str, dict[str, Any]] = {}
    for key, entries in (callbacks or trainer._callback_states).items():
        values[key] = {}
        for name, value in entries.items():
            if isinstance(value, np.ndarray):
                tensors[f"{_CALLBACK}{key}.{name}"] = value
            else:
                values[key][name] = value
    return tensors, values


def _described(trainer: Trainer) -> dict[str, Any]:
    """Return the arguments that a trainer was made with."""
    return {
        "network": trainer.network.config(),
        "loss": LOSSES.config(trainer.loss),
        "optimizer": OPTIMIZERS.config(trainer.optimizer),
        "schedule": SCHEDULES.config(trainer.schedule),
        "precision": trainer.precision,
        "seed": trainer.seed,
        "regularization": dataclasses.asdict(trainer.regularization),
        "backend": trainer.backend_name,
        "threads": trainer.threads,
        "gemm": trainer.gemm,
        "shares": trainer.shares,
        "share_by": trainer.share_by,
    }


def rebuild(
    kind: type[Trainer],
    path: str,
    tensors: Tensors,
    document: Mapping[str, Any],
    *,
    device: str,
    backend: str | None,
    precision: str | None,
    threads: int | None,
    gemm: str | None,
    shares: int | None,
    share_by: str | None,
) -> Trainer:
    """Return the trainer that tensors and document describe.

    Raises:
        CheckpointError: they do not describe one, or do not fit together.
        DeviceError: the device, the backend or MKL can't be had.
        InputError: a name is unknown, or the device lacks the precision.
    """
    with _describing(path):
        checks.check(document)
        trained_with, saved = document["backend"], document["precision"]
        for what, name, known in (
            ("backend", trained_with, backends.DEVICES),
            ("precision", saved, devices.PRECISIONS),
        ):
            if name not in known:
                raise unknown_name(what, name, known)
    choice = devices.resolve(device, backend, trained_with=trained_with)
    if precision is not None:
        devices.check_precision(choice, precision)
    elif not devices.has_precision(choice, saved):
        raise InputError(
            f"{path} was trained with precision {saved!r}, which needs device 'cuda', but this is "
            f"{choice.reason}; precision='fp32' goes on with the same weights in float32"
        )
    with _describing(path):
        settings = _settings(document)
        columns = {name: tensor for name, tensor in tensors.items() if name.startswith(_HISTORY)}
        checks.check_history(document["history"], columns, _HISTORY)
        others = {
            name: tensor for name, tensor in tensors.items()
            if not _is_callbacks(name) and name not in columns
        }  # fmt: skip
        checks.check_tensors(
            settings["network"], settings["optimizer"], document["features"], others, _STATE
        )
        choices = dict(document["choices"])
    if (threads, shares, share_by) != (None, None, None) or precision not in (None, saved):
        choices["shares"] = {}
    if gemm is not None:
        choices = {"products": {}, "shares": {}}  # shares by units take tiles
    given = {"threads": threads, "gemm": gemm, "shares": shares, "share_by": share_by}
    given = {name: value for name, value in given.items() if value is not None}
    settings |= given
    if given:
        backends.check(*(settings[name] for name in _SHARING))
    with _describing(path):
        trainer = kind(
            **settings,
            device=choice.device, backend=choice.backend, precision=precision or saved,
        )  # fmt: skip
        trainer.device_reason = choice.reason
        trainer._backend.restore_choices(choices)
        _restore(trainer, tensors, document)
    return trainer


@contextmanager
def _describing(path: str) -> Iterator[None]:
    """Turn what goes wrong with a document into the one error for it."""
    try:
        yield
    except (InputError, DeviceMemoryError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not describe a network that this version of gpubp knows "
            f"({type(error).__name__}: {error}); train it again, or load it with the version that "
            "wrote it"
        ) from error


def transfer(source: Engine, target: Engine) -> None:
    """Copy all that outlives a step from one engine to another of the same network."""
    with source.backend.active():
        vectors = {name: source.read(name) for name in (PARAMS, GRADS, *source.optimizer.state)}
        progress = source.progress()
    with target.backend.active():
        for name, values in vectors.items():
            target.write(name, values)
        target.restore_progress(progress)


def _settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a new trainer that a document holds."""
    regularization = document["regularization"]
    return {
        "network": Sequential.from_config(document["network"]),
        "loss": LOSSES.from_config(document["loss"]),
        "optimizer": OPTIMIZERS.from_config(document["optimizer"]),
        "schedule": SCHEDULES.from_config(document["schedule"]),
        "seed": document["seed"],
        **{name: document[name] for name in _SHARING},
        **{name: regularization[name] for name in ("l1", "l2", "clip_norm", "clip_value")},
    }


def _restore(trainer: Trainer, tensors: Tensors, document: Mapping[str, Any]) -> None:
    """Fill a new trainer with the numbers of a model file."""
    trainer.initialize(document["features"])
    engine = trainer._trained()
    with engine.backend.active():
        _restore_numbers(engine, tensors, document)
    trainer.epoch = int(document["epoch"])
    trainer.history = _history(tensors, document["history"])
    trainer.extra = dict(document["extra"])
    trainer._one_target = bool(document["one_target"])
    trainer._run = None if document["run"] is None else checks.run_of(document["run"])
    trainer._first_step = int(document["first_step"])
    trainer._active_schedule.restore(document["schedule_state"])
    trainer._callback_states = {key: dict(values) for key, values in document["callbacks"].items()}
    for name in filter(_is_callbacks, tensors):
        key, _, entry = name.removeprefix(_CALLBACK).partition(".")
        trainer._callback_states.setdefault(key, {})[entry] = tensors[name]


def _restore_numbers(engine: Engine, tensors: Tensors, document: Mapping[str, Any]) -> None:
    """Fill an engine's vectors and counters.

    Raises:
        InputError: a parameter is beyond the engine's precision.
    """
    names = [parameter.name for parameter in engine.layout.parameters]
    engine.write_named(PARAMS, {name: tensors[name] for name in names})
    for name in engine.optimizer.state:
        engine.write(name, tensors[_STATE + name])
    engine.restore_progress(document["progress"])


def _is_callbacks(tensor: str) -> bool:
    return tensor.startswith(_CALLBACK)
