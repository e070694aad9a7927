"""Turns a table's columns into the numbers that a network takes, by what the training rows say.

A numeric column is filled with its median where a value is missing, and standardised: mean 0 and
standard deviation 1 over the training rows. A column of numbers but for a few texts is numeric,
too, and these texts are missing values. A column of texts becomes a column of 0 and 1 for each
of its values, one of them "missing" if any is; a value that the training rows did not have is 0 in
all of them. Columns without information are left out: constant ones, texts of which nearly every
row has its own, and those that number the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.data import numerals
from gpubp.data.table import Table, shorten
from gpubp.errors import InputError

Matrix = NDArray[np.float32]

# A column of more different texts would make the network's input mostly zeros.
_MOST_LEVELS = 256
_FEW_LEVELS = 20
# The part of a column's values that are numbers, from which on the others are taken for missing,
# and from which on they are named.
_MOSTLY, _HALF = 0.95, 0.5
_ROUNDING = 64 * float(np.finfo(np.float64).eps)  # of a column's largest value: how far noise goes
_ROW_NAMES = (
    "id", "index", "row", "row#", "row_id", "rowid", "rownum", "row_number", "rownames",
    "unnamed:_0", "no", "no.", "nr", "#",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Numeric:
    """A column of numbers, x -> ((x, or the median where missing) - mean) / scale."""

    name: str
    median: float
    mean: float
    scale: float
    others: tuple[str, ...] = ()  # texts that stand for a missing value

    @property
    def width(self) -> int:
        """The number of the network's inputs that it becomes."""
        return 1

    def fill(self, table: Table, out: Matrix) -> str:
        """Write the (N, 1) inputs; return what there is to say about the values."""
        values = table.numbers(self.name, self.others)
        missing = np.isnan(values)
        values[missing] = self.median
        with np.errstate(over="ignore"):
            out[:, 0] = standardised(values, self.mean, self.scale)
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
            others, told = _kind(whole, name)
            said += told
            if others is None:
                continue
            numeric = isinstance(others, tuple)
            column = _numeric(table, name, others) if numeric else _categorical(table, name)
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
        return cls(tuple(columns)), notes + said

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
                else Numeric(**{**column, "others": tuple(column.get("others", ()))})
                for column in document
            )
        )


def _most_levels(rows: int) -> int:
    """Return how many different texts tell something: not one a row, nor nearly so."""
    return min(rows - 1, max(_FEW_LEVELS, rows // 2), _MOST_LEVELS)


def _kind(table: Table, name: str) -> tuple[tuple[str, ...] | str | None, list[str]]:
    """Return what a column is, and what there is to say about it.

    The texts among its numbers that are missing values, "texts" if it is one of these, or None if
    it is left out.
    """
    if table.is_numeric(name):
        numbered = _numbers_rows(table, name)
        if numbered == "rows":
            return None, [f"left out, it numbers the rows: {name}"]
        each = "a whole number of its own in every row: if that is a name, leave the column out"
        return (), [f"{name}: {each}"] if numbered else []
    share, odd = table.odd(name)
    if share < _MOSTLY or not odd.any():
        names = not odd.any() and numerals.are_names(table.texts(name).tolist())
        why = "numbers with leading zeros or more digits than a float64 holds, taken for names"
        first = f"of {table.rows} values {100 * share:.0f} % are numbers, but not"
        if names:
            return "texts", [f"{name}: {why}"]
        if share >= _HALF and odd.any():
            text = str(table.column(name)[odd][0])
            return "texts", [f"{name}: taken for texts; {first} {text!r} at {table.place(odd)}"]
        return "texts", []
    texts = np.unique(table.column(name)[odd]).tolist()
    present = int((~table.missing(name)).sum())
    return tuple(texts), [
        f"{name}: {present - int(odd.sum())} of {present} are numbers, but not "
        f"{str(table.column(name)[odd][0])!r} at {table.place(odd)}; taken for missing: "
        f"{shorten(map(repr, texts))}"
    ]


def _numbers_rows(table: Table, name: str) -> str:
    """Return "rows" of a column that numbers the rows, "unique" if each has another one."""
    values = table.numbers(name)
    if table.rows < _FEW_LEVELS or np.isnan(values).any() or (values != np.floor(values)).any():
        return ""
    if (np.diff(values) == 1).all() and values[0] in (0, 1):
        usual = name.casefold().replace(" ", "_") in _ROW_NAMES or name.startswith("column ")
        return "rows" if usual else "unique"
    return "unique" if len(np.unique(values)) == table.rows else ""


def spread(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return mean and standard deviation; the latter is 0 of values that vary by rounding alone.

    They are computed of numbers of size 1 at most, so that nothing overflows or vanishes.
    """
    size = float(np.abs(values).max())
    if size == 0 or float(values.max()) / 2 - float(values.min()) / 2 <= _ROUNDING * size / 2:
        return float(values[0]), 0.0
    exponent = int(np.frexp(size)[1])
    small = np.ldexp(values, -exponent)
    return float(np.ldexp(small.mean(), exponent)), float(np.ldexp(small.std(), exponent))


def standardised(values: NDArray[np.float64], mean: float, scale: float) -> NDArray[np.float64]:
    """Return (values - mean) / scale, also where the difference is beyond float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = (values - mean) / scale
        far = ~np.isfinite(result)
        if far.any():
            result[far] = values[far] / scale - mean / scale
    return result


def _numeric(table: Table, name: str, others: tuple[str, ...]) -> Numeric | None:
    """Return what the rows say about a column of numbers; None if they are all equal."""
    values = table.numbers(name, others)
    present = values[~np.isnan(values)]
    if not present.size:
        return None
    half = np.median(present / 2)  # of an even number of values it is the mean of two
    median = float(2 * half) if np.isfinite(2 * half) else float(present.max())
    mean, scale = spread(np.where(np.isnan(values), median, values))
    return Numeric(name, median, mean, scale, others) if scale > 0 else None


def _categorical(table: Table, name: str) -> Categorical | None:
    """Return what the rows say about a column of texts; None if they are all equal."""
    levels = sorted(set(table.texts(name).tolist()))
    return Categorical(name, tuple(levels)) if len(levels) > 1 else None


def _plural(columns: list[Numeric | Categorical]) -> str:
    numeric = sum(isinstance(column, Numeric) for column in columns)
    parts = [f"{numeric} numeric, standardised"] if numeric else []
    if numeric < len(columns):
        levels = sum(column.width for column in columns if isinstance(column, Categorical))
        parts.append(f"{len(columns) - numeric} of texts, one-hot in {levels} inputs")
    return f"columns: {'; '.join(parts)}"
