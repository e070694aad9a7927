"""Turns a table's columns into the numbers that a network takes, by what the training rows say.

A numeric column is filled with its median where a value is missing, and standardised: mean 0 and
standard deviation 1 over the training rows. A column of texts becomes a column of 0 and 1 for each
of its values, one of them "missing" if any is; a value that the training rows did not have is 0 in
all of them. Columns without information are left out: constant ones, and texts of which nearly
every row has its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.data.table import Table, shorten
from gpubp.errors import InputError

Matrix = NDArray[np.float32]

# A column of more different texts would make the network's input mostly zeros.
_MOST_LEVELS = 256
_FEW_LEVELS = 20


@dataclass(frozen=True, slots=True)
class Numeric:
    """A column of numbers, x -> ((x, or the median where missing) - mean) / scale."""

    name: str
    median: float
    mean: float
    scale: float

    @property
    def width(self) -> int:
        """The number of the network's inputs that it becomes."""
        return 1

    def fill(self, table: Table, out: Matrix) -> str:
        """Write the (N, 1) inputs; return what there is to say about the values."""
        values = table.numbers(self.name)
        missing = np.isnan(values)
        values[missing] = self.median
        with np.errstate(over="ignore"):
            out[:, 0] = (values - self.mean) / self.scale
        far = ~np.isfinite(out[:, 0])
        if far.any():
            raise InputError(
                f"{table.origin}: column {self.name!r} has {values[far][0]:g} at "
                f"{table.place(far)}, too far from the training data (mean {self.mean:g}, "
                f"deviation {self.scale:g})"
            )
        count = int(missing.sum())
        return f"{count} missing, filled with the median {self.median:g}" if count else ""


@dataclass(frozen=True, slots=True)
class Categorical:
    """A column of texts, x -> 1 at the place of x among ``levels`` ("" is missing), 0 elsewhere."""

    name: str
    levels: tuple[str, ...]

    @property
    def width(self) -> int:
        """The number of the network's inputs that it becomes."""
        return len(self.levels)

    def fill(self, table: Table, out: Matrix) -> str:
        """Write the (N, levels) inputs; return what there is to say about the values."""
        texts = table.texts(self.name)
        out[:] = texts[:, None] == np.array(self.levels, np.dtypes.StringDType())
        unknown = ~out.any(axis=1)
        if not unknown.any():
            return ""
        values = shorten(repr(value) for value in np.unique(texts[unknown]).tolist())
        return f"{int(unknown.sum())} unknown ({values}), taken for none of its values"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What the training rows say about every column that is used."""

    columns: tuple[Numeric | Categorical, ...]

    @property
    def width(self) -> int:
        """The number of the network's inputs, I."""
        return sum(column.width for column in self.columns)

    @classmethod
    def fit(cls, table: Table, target: str) -> tuple[Preprocessing, list[str]]:
        """Return the preprocessing by the rows of ``table``, and what it does, a sentence each.

        Raises:
            InputError: no column is left, or a value can't be used.
        """
        columns: list[Numeric | Categorical] = []
        constant, diverse = [], []
        for name in table.columns:
            if name == target:
                continue
            column = _numeric(table, name) if table.is_numeric(name) else _categorical(table, name)
            if column is None:
                constant.append(name)
            elif column.width > _most_levels(table.rows):
                diverse.append(name)
            else:
                columns.append(column)
        if not columns:
            raise InputError(
                f"{table.origin}: no column but {target!r} can be used; each is the same in every "
                "row or has too many different texts"
            )
        notes = [_plural(columns)]
        if constant:
            notes.append(f"left out, the same in every training row: {shorten(constant)}")
        if diverse:
            notes.append(f"left out, too many different texts: {shorten(diverse)}")
        return cls(tuple(columns)), notes

    def apply(self, table: Table) -> tuple[Matrix, list[str]]:
        """Return the table as (N, I) float32, C-contiguous, and what was done to the values.

        Raises:
            InputError: a column is not there (the nearest is suggested), or a value is not a
                finite number where the training data had numbers (the first is named).
        """
        X = np.empty((table.rows, self.width), np.float32)
        notes, first = [], 0
        for column in self.columns:
            note = column.fill(table, X[:, first : first + column.width])
            first += column.width
            if note:
                notes.append(f"{column.name}: {note}")
        return X, notes

    def to_json(self) -> list[dict[str, Any]]:
        """Return the columns as JSON values."""
        return [asdict(column) for column in self.columns]

    @classmethod
    def from_json(cls, document: list[Mapping[str, Any]]) -> Preprocessing:
        """Return the preprocessing that :meth:`to_json` described."""
        return cls(
            tuple(
                Categorical(column["name"], tuple(column["levels"]))
                if "levels" in column
                else Numeric(**column)
                for column in document
            )
        )


def _most_levels(rows: int) -> int:
    """Return how many different texts tell something: not one a row, nor nearly so."""
    return min(rows - 1, max(_FEW_LEVELS, rows // 2), _MOST_LEVELS)


def _numeric(table: Table, name: str) -> Numeric | None:
    """Return what the rows say about a column of numbers; None if they are all equal."""
    values = table.numbers(name)
    present = values[~np.isnan(values)]
    if present.min() == present.max():
        return None
    median = float(np.median(present))
    filled = np.where(np.isnan(values), median, values)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = float(filled.mean()), float(filled.std())
    if not (np.isfinite(mean) and np.isfinite(scale) and scale > 0):
        raise InputError(
            f"{table.origin}: column {name!r} goes from {present.min():g} to {present.max():g}, "
            "too far to be standardised; scale it first"
        )
    return Numeric(name, median, mean, scale)


def _categorical(table: Table, name: str) -> Categorical | None:
    """Return what the rows say about a column of texts; None if they are all equal."""
    levels = np.unique(table.texts(name)).tolist()
    return Categorical(name, tuple(levels)) if len(levels) > 1 else None


def _plural(columns: list[Numeric | Categorical]) -> str:
    numeric = sum(isinstance(column, Numeric) for column in columns)
    parts = [f"{numeric} numeric, standardised"] if numeric else []
    if numeric < len(columns):
        levels = sum(column.width for column in columns if isinstance(column, Categorical))
        parts.append(f"{len(columns) - numeric} of texts, one-hot in {levels} inputs")
    return f"columns: {'; '.join(parts)}"
