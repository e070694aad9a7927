"""What the document of a model file must be, checked before anything is made of it.

A file may come from anybody, with digests that are right. Its counters say where in the order of
the rows and in the table of rates compiled code goes on, and its shapes how much memory is taken.
So they must agree with each other and with the tensors that are there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gpubp.backends import MOST_THREADS
from gpubp.callbacks import Run
from gpubp.errors import InputError, unknown_name
from gpubp.network import Sequential
from gpubp.optimizers import Optimizer
from gpubp.settings import Rule

_KINDS: dict[str, type | tuple[type, ...]] = {
    "network": list, "features": int, "one_target": bool, "loss": dict, "optimizer": dict,
    "schedule": dict, "precision": str, "seed": int, "regularization": dict, "backend": str,
    "threads": int, "gemm": str, "shares": (int, type(None)), "share_by": str, "choices": dict,
    "epoch": int, "progress": dict, "run": (dict, type(None)), "first_step": int,
    "schedule_state": dict, "callbacks": dict, "history": (dict, list), "extra": dict,
}  # fmt: skip
_RUN = ("first_epoch", "epochs", "steps_per_epoch", "batch_size", "rows")
_PROGRESS = ("step", "row", "loss_of_rows", "sums")
_LAYERS = 10_000  # at most: more take longer to check than to train
_CELLS = 10**6  # of a history: more must be half full, or a few numbers would take much memory
_COUNT = Rule(least=0, most=2**53, whole=True)  # of epochs, steps and rows
_NUMBER = Rule()


def check(document: Mapping[str, Any]) -> None:
    """Check the types of a document, and that its counters agree with each other.

    Raises:
        InputError: something is missing, too much, of another type or out of its range.
    """
    _check_names("the document", document, _KINDS)
    for name, kind in _KINDS.items():
        value = document[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InputError(f"{name} is {_short(value)}")
    if len(document["network"]) > _LAYERS:
        raise InputError(f"the network has {len(document['network'])} layers, {_LAYERS} at most")
    Rule(least=1, most=2**31, whole=True).check("features", document["features"])
    for kind, chosen in document["choices"].items():
        if kind not in ("products", "shares"):
            raise unknown_name("choices", kind, ("products", "shares"))
        if not isinstance(chosen, dict) or not all(isinstance(v, str) for v in chosen.values()):
            raise InputError(f"choices of {kind} are {_short(chosen)}")
    for key, values in document["callbacks"].items():
        if not isinstance(values, dict):
            raise InputError(f"the state of callback {key!r} is {_short(values)}")
    _check_history(document["history"])
    _check_counters(document)


def _check_history(history: dict[str, Any] | list[Any]) -> None:
    """Check what is said of a history; in format 1 it is a list of its records."""
    if isinstance(history, list):
        if not all(isinstance(record, dict) for record in history):
            raise InputError("a record of the history is no object")
        cells = len(history) * len({name for record in history for name in record})
        if cells > max(_CELLS, 2 * sum(map(len, history))):
            raise InputError(f"the {len(history)} records of the history are nearly empty")
        return
    _check_names("the history", history, ("records", "columns"))
    names = history["columns"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"the columns of the history are {_short(names)}")
    if len(set(names)) != len(names):
        raise InputError("the history has two columns of one name")
    records = _COUNT.check("records", history["records"])
    if records and not names:
        raise InputError(f"the history has {records} records without a column")


def _check_counters(document: Mapping[str, Any]) -> None:
    progress = document["progress"]
    _check_names("progress", progress, _PROGRESS)
    epoch = _COUNT.check("epoch", document["epoch"])
    first = _COUNT.check("first_step", document["first_step"])
    step, row = (_COUNT.check(name, progress[name]) for name in ("step", "row"))
    sums = progress["sums"]
    if not isinstance(sums, list) or not 1 <= len(sums) <= MOST_THREADS:
        raise InputError(f"the sums of the loss are {_short(sums)}")
    for value in (*sums, progress["loss_of_rows"]):
        _NUMBER.check("a sum of the loss", value)
    if document["run"] is None:
        agree = first <= step and row == 0
    else:
        run = run_of(document["run"])
        done = epoch - run.first_epoch
        minibatches, rest = -(-row // run.batch_size), row % run.batch_size
        agree = (
            0 <= done <= run.epochs
            and row <= (run.rows if done < run.epochs else 0)
            and (rest == 0 or row == run.rows)
            and step == first + done * run.steps_per_epoch + minibatches
        )
    if not agree:
        raise InputError(
            f"its counters disagree: epoch {epoch}, step {step}, row {row}, first step {first}, "
            f"run {document['run']}"
        )


def run_of(values: Mapping[str, Any]) -> Run:
    """Return the run that a document describes.

    Raises:
        InputError: its numbers are missing, too many, out of their range or disagree.
    """
    _check_names("run", values, _RUN)
    run = Run(**{name: _COUNT.check(name, values[name]) for name in _RUN})
    if not 1 <= run.batch_size <= run.rows or run.steps_per_epoch != -(-run.rows // run.batch_size):
        raise InputError(f"the numbers of its run disagree: {values}")
    return run


def check_tensors(
    network: Sequential, optimizer: Optimizer, features: int, tensors: Mapping[str, Any], state: str
) -> None:
    """Check that tensors are a network's parameters and an optimizer's state, before any is taken.

    ``state`` is what the names of the latter begin with.

    Raises:
        InputError: one is missing or too many, of another shape or dtype, or not finite.
    """
    shapes = {parameter.name: parameter.shape for parameter in network.parameters(features)}
    count = sum(math.prod(shape) for shape in shapes.values())
    shapes |= {state + name: (count,) for name in optimizer.state}
    if tensors.keys() != shapes.keys():
        wrong = sorted(tensors.keys() ^ shapes.keys())
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise InputError(f"tensors {', '.join(wrong[:5])}{more} are missing or too many")
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.shape != shape or tensor.dtype not in (np.float32, np.float64):
            raise InputError(f"tensor {name} is {tensor.dtype} of shape {tensor.shape}")
        if not np.isfinite(tensor).all():
            raise InputError(f"tensor {name} is not finite")


def check_history(
    history: Mapping[str, Any] | list[Any], columns: Mapping[str, Any], prefix: str
) -> None:
    """Check that tensors are the columns of a history that :func:`check` has seen.

    The names of them all begin with ``prefix``.

    Raises:
        InputError: one is missing or too many, or of another length or dtype.
    """
    records, count = (
        (0, 0) if isinstance(history, list) else (history["records"], len(history["columns"]))
    )
    wanted = {f"{prefix}{number}" for number in range(count)}
    wrong = sorted(columns.keys() - wanted - {f"{name}.there" for name in wanted})
    wrong += sorted(wanted - columns.keys())
    if wrong:
        raise InputError(f"tensors {', '.join(wrong[:5])} are missing or too many")
    for name, tensor in columns.items():
        dtypes = (np.int64, np.float64) if name in wanted else (np.bool_,)
        if tensor.shape != (records,) or tensor.dtype not in dtypes:
            raise InputError(f"tensor {name} is {tensor.dtype} of shape {tensor.shape}")


def _check_names(what: str, values: Mapping[str, Any], names: Any) -> None:
    wrong = sorted(map(str, set(values) ^ set(names)))
    if wrong:
        raise InputError(f"in {what}, {', '.join(wrong[:5])} are missing or too many")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
