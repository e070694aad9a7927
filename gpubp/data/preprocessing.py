"""Turns a table's columns into the numbers that a network takes, by what the training rows say.

A numeric column is filled with its median where a value is missing, and standardised: mean 0 and
standard deviation 1 over the training rows. A column of texts becomes a column of 0 and 1 for each
of its values, one of them "missing" if any is; a value that the training rows did not have is 0 in
all of them. Which of the two a column is, kinds.py says. Columns without information are left out:
constant ones, texts of which nearly every row has its own, and those that number the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.data import kinds, saved
from gpubp.data.cells import Cells, Texts
from gpubp.data.kinds import Kind
from gpubp.data.names import shorten
from gpubp.data.scaling import spread, standardised
from gpubp.data.table import Table
from gpubp.errors import InputError

Matrix = NDArray[np.float32]

# A column of more different texts would make the network's input mostly zeros.
_MOST_LEVELS = 256
_FEW_LEVELS = 20
_ROWS = 8192  # written at a time, so that they stay in a processor's cache


@dataclass(frozen=True, slots=True)
class Numeric:
    """A column of numbers, x -> ((x, or the median where missing) - mean) / scale."""

    name: str
    median: float
    mean: float
    scale: float
    missing: tuple[str, ...] = ()  # texts that stand for a missing value
    unit: str = ""  # what each number was written with in the training data

    @property
    def width(self) -> int:
        """The number of the network's inputs that it becomes."""
        return 1

    def inputs(self, table: Table) -> tuple[NDArray[np.float32], list[str]]:
        """Return the (N,) inputs, and what there is to say about the values."""
        notes = [*self._unit(table), *kinds.told_of_names(table, self.name)]
        values = table.numbers(self.name, self.missing)
        missing = np.isnan(values)
        count = int(missing.sum())
        if count:
            values = np.where(missing, self.median, values)
            notes.append(f"{count} missing, filled with the median {self.median:g}")
        with np.errstate(over="ignore"):
            out = standardised(values, self.mean, self.scale).astype(np.float32)
        far = ~np.isfinite(out)
        if far.any():
            raise InputError(
                f"{table.origin}: column {self.name!r} has {values[far][0]:g} at "
                f"{table.place(far)}, too far from the training data (mean {self.mean:g}, "
                f"deviation {self.scale:g})"
            )
        return out, notes

    def write(self, inputs: NDArray[Any], out: Matrix) -> None:
        """Write the inputs of some rows, (n,), as (n, 1)."""
        out[:, 0] = inputs

    def _unit(self, table: Table) -> list[str]:
        """Return a note if new data are written without the unit; another one is refused."""
        column = table.column(self.name)
        unit = column.numbers.unit if isinstance(column, Cells) else ""
        if unit == self.unit:
            return []
        if unit:
            raise InputError(
                f"{table.origin}: column {self.name!r} has numbers with {unit}, but the training "
                f"data had {'them with ' + self.unit if self.unit else 'none'}; write them as there"
            )
        return [f"written without {self.unit}, which the training data had"]


@dataclass(frozen=True, slots=True)
class Categorical:
    """A column of texts, x -> 1 at the place of x among ``levels`` ("" is missing), 0 elsewhere."""

    name: str
    levels: tuple[str, ...]

    @property
    def width(self) -> int:
        """The number of the network's inputs that it becomes."""
        return len(self.levels)

    def inputs(self, table: Table) -> tuple[NDArray[np.intp], list[str]]:
        """Return (N,) which of ``levels`` a row has, -1 for none, and what there is to say."""
        texts = table.levels(self.name)
        place = {level: index for index, level in enumerate(self.levels)}
        known = np.array([place.get(level, -1) for level in texts.levels], np.intp)[texts.codes]
        unknown = known < 0
        if not unknown.any():
            return known, []
        others = Texts(texts.levels, texts.codes[unknown]).present()
        said = shorten(repr(value) for value in others)
        return known, [f"{int(unknown.sum())} unknown ({said}), taken for none of its values"]

    def write(self, inputs: NDArray[Any], out: Matrix) -> None:
        """Write the inputs of some rows, (n,), into (n, levels) zeros."""
        rows = np.flatnonzero(inputs >= 0)
        out[rows, inputs[rows]] = 1


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What the training rows say about every column that is used."""

    columns: tuple[Numeric | Categorical, ...]

    @property
    def width(self) -> int:
        """The number of the network's inputs, I."""
        return sum(column.width for column in self.columns)

    @classmethod
    def fit(
        cls, table: Table, target: str, whole: Table | None = None
    ) -> tuple[Preprocessing, list[str]]:
        """Return the preprocessing by the rows of ``table``, and what it does, a sentence each.

        What a column is goes by ``whole``, of which ``table`` is a part: so it is the same however
        rows are drawn.

        Raises:
            InputError: no column is left, or a value can't be used.
        """
        whole = whole or table
        columns: list[Numeric | Categorical] = []
        constant, diverse, said = [], [], []
        for name in table.columns:
            if name == target:
                continue
            kind = kinds.of(whole or table, name)
            said += [kind.note] * bool(kind.note)
            if kind.what == "rows":
                continue
            column = (
                _categorical(table, name) if kind.what == "texts" else _numeric(table, name, kind)
            )
            if column is None:
                constant.append(name)
            elif column.width > _most_levels(table.rows):
                diverse.append(name)
            else:
                columns.append(column)
        if not columns:
            raise InputError(
                f"{table.origin}: no column but {target!r} can be used; each is the same in every "
                "row, has too many different texts or numbers the rows"
            )
        notes = [_plural(columns)]
        if constant:
            notes.append(f"left out, the same in every training row: {shorten(constant)}")
        if diverse:
            notes.append(f"left out, too many different texts: {shorten(diverse)}")
        return cls(tuple(columns)), said + notes

    def apply(self, table: Table) -> tuple[Matrix, list[str]]:
        """Return the table as (N, I) float32, C-contiguous, and what was done to the values.

        Raises:
            InputError: a column is not there (the nearest is suggested), or a value is not a
                finite number where the training data had numbers (the first is named).
        """
        X = np.zeros((table.rows, self.width), np.float32)
        notes, parts, first = [], [], 0
        for column in self.columns:
            inputs, said = column.inputs(table)
            parts.append((column, inputs, slice(first, first + column.width)))
            first += column.width
            notes += [f"{column.name}: {note}" for note in said]
        for start in range(0, table.rows, _ROWS):
            rows = slice(start, start + _ROWS)
            for column, inputs, place in parts:
                column.write(inputs[rows], X[rows, place])
        return X, notes

    def to_json(self) -> list[dict[str, Any]]:
        """Return the columns as JSON values."""
        return [asdict(column) for column in self.columns]

    @classmethod
    def from_json(cls, document: list[Mapping[str, Any]]) -> Preprocessing:
        """Return the preprocessing that :meth:`to_json` described."""
        return cls(tuple(map(_column, document)))


def _column(document: Mapping[str, Any]) -> Numeric | Categorical:
    """Return the column that a document describes."""
    if "levels" in document:
        name, levels = (document[key] for key in ("name", "levels"))
        return Categorical(saved.text(name), saved.texts(levels))
    return Numeric(
        name=saved.text(document["name"]),
        median=saved.number(document["median"]),
        mean=saved.number(document["mean"]),
        scale=saved.scale(document["scale"]),
        missing=saved.texts(document["missing"]),
        unit=saved.text(document["unit"]),
    )


def _most_levels(rows: int) -> int:
    """Return how many different texts tell something: not one a row, nor nearly so."""
    return min(rows - 1, max(_FEW_LEVELS, rows // 2), _MOST_LEVELS)


def _numeric(table: Table, name: str, kind: Kind) -> Numeric | None:
    """Return what the rows say about a column of numbers; None if they are all equal."""
    values = table.numbers(name, kind.missing)
    absent = np.isnan(values)
    present = values[~absent] if absent.any() else values
    if not present.size:
        return None
    half = float(np.median(present / 2))  # of an even number of values it is the mean of two
    median = 2 * half
    mean, scale = spread(np.where(absent, median, values), table.precision(name))
    return Numeric(name, median, mean, scale, kind.missing, kind.unit) if scale > 0 else None


def _categorical(table: Table, name: str) -> Categorical | None:
    """Return what the rows say about a column of texts; None if they are all equal."""
    levels = table.levels(name).present()
    return Categorical(name, tuple(levels)) if len(levels) > 1 else None


def _plural(columns: list[Numeric | Categorical]) -> str:
    numeric = sum(isinstance(column, Numeric) for column in columns)
    parts = [f"{numeric} numeric, standardised"] if numeric else []
    if numeric < len(columns):
        levels = sum(column.width for column in columns if isinstance(column, Categorical))
        parts.append(f"{len(columns) - numeric} of texts, one-hot in {levels} inputs")
    return f"columns: {'; '.join(parts)}"
