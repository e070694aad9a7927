"""From a table to the arrays that a network trains on, with all that was done on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.data import saved
from gpubp.data import target as targets
from gpubp.data.csvfile import AS_FOUND, Reading
from gpubp.data.names import shorten
from gpubp.data.notation import DECIMALS
from gpubp.data.preprocessing import Matrix, Preprocessing
from gpubp.data.scaling import spread
from gpubp.data.split import Split, split
from gpubp.data.table import Table
from gpubp.data.target import Target, Task
from gpubp.errors import CheckpointError, InputError


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that is needed to treat other data as the training data was; saved with a model.

    Attributes:
        preprocessing: of the input columns.
        target: the target column's coding.
        fingerprint: the digest of the training data's table.
        validation, test, seed: what split it.
        reading: how files are read that go with the training data.
    """

    preprocessing: Preprocessing
    target: Target
    fingerprint: str
    validation: float
    test: float
    seed: int
    reading: Reading = AS_FOUND

    def split(self, table: Table) -> Split:
        """Return the split of the table that the model was trained on."""
        groups = self.target.encode(table) if self.target.classes else np.zeros(table.rows)
        return split(groups, validation=self.validation, test=self.test, seed=self.seed)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "columns": self.preprocessing.to_json(),
            "target": self.target.to_json(),
            "fingerprint": self.fingerprint,
            "validation": self.validation,
            "test": self.test,
            "seed": self.seed,
            "reading": {
                "missing": self.reading.missing,
                "decimal": self.reading.decimal,
                "usual": self.reading.usual,
            },
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Recipe:
        """Return the recipe that :meth:`to_json` described.

        Raises:
            CheckpointError: the document is not one.
        """
        try:
            return cls(
                Preprocessing.from_json(document["columns"]),
                Target.from_json(document["target"]),
                saved.text(document["fingerprint"]),
                saved.share(document["validation"]),
                saved.share(document["test"]),
                saved.whole(document["seed"]),
                _reading(document["reading"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                "the model file does not say how its data was prepared; it was not written by "
                "'gpubp train' of this version: load it with gpubp.Trainer.load"
            ) from error


@dataclass(frozen=True, slots=True)
class Prepared:
    """A data set ready for training.

    Attributes:
        recipe: what was learned from the training rows.
        rows: the split of the rows.
        X: (N, I) float32, all rows.
        y: (N,) int64 class ids or float32 coded values, all rows.
        notes: what was done, a sentence each.
        left_out: how many rows of the table have no value in the target.
    """

    recipe: Recipe
    rows: Split
    X: Matrix
    y: NDArray[Any]
    notes: tuple[str, ...]
    left_out: int = 0


def with_target(table: Table, name: str) -> tuple[Table, list[str]]:
    """Return the rows that have a value in the target column, and what was left out."""
    missing = table.missing(name)
    if not missing.any():
        return table, []
    note = f"left out {int(missing.sum())} rows without a value in {name!r}"
    return table.take(np.flatnonzero(~missing)), [note]


def prepare(
    table: Table,
    *,
    target: str | None = None,
    task: Task | None = None,
    standardise_target: bool = True,
    validation: float = 0.0,
    test: float = 0.0,
    seed: int = 0,
) -> Prepared:
    """Choose the target, split the rows, and learn and apply the preprocessing.

    Args:
        table: the data.
        target: the column to predict; None takes the one called target, label, class or y, else
            the last.
        task: None takes what the target's values suggest.
        standardise_target: whether the values of a regression are standardised.
        validation, test, seed: see :func:`gpubp.data.split.split`.

    Raises:
        InputError: the data can't be used.
    """
    name, why_target = targets.choose(table, target)
    coding, why_task = targets.infer(table, name, task)
    fingerprint = table.fingerprint()
    notes = [
        f"{table.rows} rows, {len(table.columns)} columns",
        *table.notes,
        f"target: {name!r} ({why_target}), {_said(coding)} ({why_task})",
    ]
    before = table.rows
    table, left_out = with_target(table, name)
    groups = coding.encode(table) if coding.classes else np.zeros(table.rows)
    rows = split(groups, validation=validation, test=test, seed=seed)
    training = table.take(rows.train)
    if not coding.classes and standardise_target:
        values = training.numbers(name)
        mean, scale = spread(values, table.precision(name))
        if not scale:
            raise InputError(f"{table.origin}: column {name!r} is {values[0]:g} in every row")
        coding = replace(coding, mean=mean, scale=scale)
    preprocessing, learned = Preprocessing.fit(training, name, table)
    X, filled = preprocessing.apply(table)
    recipe = Recipe(preprocessing, coding, fingerprint, validation, test, seed, table.reading)
    notes += [*left_out, *learned, *filled]
    return Prepared(recipe, rows, X, coding.encode(table), tuple(notes), before - table.rows)


def _reading(document: Mapping[str, Any]) -> Reading:
    """Return how files are read, as a recipe's document says it."""
    missing, *decimals = (document[key] for key in ("missing", "decimal", "usual"))
    if not {*decimals} <= {None, *DECIMALS}:
        raise ValueError("decimals of no kind")
    return Reading(None, None if missing is None else saved.texts(missing), *decimals)


def _said(target: Target) -> str:
    if not target.classes:
        return "regression"
    return f"classification into {len(target.classes)} classes: {shorten(target.classes)}"
