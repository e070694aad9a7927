"""A table of named columns, and where it comes from: a bundled set, an ``.npz`` or a CSV file.

What the columns mean is decided elsewhere: target.py says what is predicted, kinds.py what a column
is, preprocessing.py what the rest becomes.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.data import csvfile, datasets, npzfile, source
from gpubp.data.cells import Cells, Texts
from gpubp.data.csvfile import AS_FOUND, Reading
from gpubp.data.names import nearest
from gpubp.errors import InputError

Column = NDArray[Any] | Cells

_LARGEST_WHOLE = 2**53  # up to which a float64 holds every one


@dataclass(frozen=True, slots=True)
class Table:
    """Named columns of one length.

    A column is a vector of a real dtype, NaN where a value is missing; or of texts, those of a CSV
    file among them. Whether texts are numbers is asked of the training data, and then holds for new
    data too.

    Attributes:
        origin: the file or set, as messages name it.
        columns: name -> (N,) column; one of NumPy's ``StringDType`` becomes :class:`Cells`.
        places: (N,) where messages say that a row is: its line in a CSV file, else its number,
            counted from 0.
        unit: what ``places`` counts, "line" or "row".
        notes: what was done on reading, a sentence each.
        reading: how new files are to be read that go with this one.
        blank: how many blank lines of the file are no rows.
    """

    origin: str
    columns: Mapping[str, Any]
    places: NDArray[np.int64]
    unit: str = "row"
    notes: tuple[str, ...] = ()
    reading: Reading = AS_FOUND
    blank: int = 0

    def __post_init__(self) -> None:
        """Make cells of texts."""
        columns = {
            name: column
            if isinstance(column, Cells) or not isinstance(column.dtype, np.dtypes.StringDType)
            else Cells.of(column.tolist())
            for name, column in self.columns.items()
        }
        object.__setattr__(self, "columns", columns)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.places)

    def place(self, where: NDArray[np.bool_]) -> str:
        """Return how messages name the first row at which a condition holds."""
        return f"{self.unit} {self.places[int(where.argmax())]}"

    def named(self, name: str) -> str:
        """Return a column's name as the table has it: accents composed."""
        composed = unicodedata.normalize("NFC", name)
        return composed if composed in self.columns else name

    def column(self, name: str) -> Column:
        """Return a column.

        Raises:
            InputError: there is none of that name (the nearest is suggested).
        """
        name = self.named(name)
        if name not in self.columns:
            raise InputError(f"{self.origin} has no column {name!r}; {nearest(name, self.columns)}")
        column: Column = self.columns[name]
        return column

    def missing(self, name: str) -> NDArray[np.bool_]:
        """Return where a column has no value."""
        column = self.column(name)
        return column.is_missing if isinstance(column, Cells) else np.isnan(column)

    def is_numeric(self, name: str) -> bool:
        """Return whether every value of a column is a number, and there is one.

        Whole numbers that a float64 does not hold are names.
        """
        column = self.column(name)
        if isinstance(column, Cells):
            return column.is_number()
        if column.dtype.kind in "iu" and len(column):
            return max(int(column.max()), -int(column.min())) <= _LARGEST_WHOLE
        return not self.missing(name).all()

    def numbers(self, name: str, missing: Sequence[str] = ()) -> NDArray[np.float64]:
        """Return a column as numbers, NaN where missing and where it has one of some texts.

        Raises:
            InputError: a value is not a number or not finite (the first is named).
        """
        column = self.column(name)
        if isinstance(column, Cells):
            values, bad = column.numbers.values, column.wrong(missing)
        else:
            values = column.astype(np.float64)
            bad = np.isinf(values)
        if bad.any():
            first = column.first(bad) if isinstance(column, Cells) else str(column[bad][0])
            raise InputError(
                f"{self.origin}: column {name!r} has {first!r} at {self.place(bad)}, where a "
                "finite number is needed; correct it, leave it empty, or say that it is missing "
                "with --missing in training"
            )
        return values

    def levels(self, name: str) -> Texts:
        """Return a column as different texts: numbers as people write them, 3 rather than 3.0."""
        column = self.column(name)
        if isinstance(column, Cells):
            return column.texts
        different, codes = np.unique(column, return_inverse=True)
        return Texts(tuple(map(number_text, different.tolist())), codes)

    def texts(self, name: str) -> NDArray[np.str_]:
        """Return a column as an array of texts, empty where missing."""
        return self.levels(name).array()

    def precision(self, name: str) -> float:
        """Return the relative distance of neighbouring numbers of a column's dtype."""
        column = self.column(name)
        narrow = not isinstance(column, Cells) and column.dtype == np.float32
        return float(np.finfo(np.float32 if narrow else np.float64).eps)

    def take(self, rows: NDArray[np.intp]) -> Table:
        """Return the table of some of the rows, in that order."""
        columns = {
            name: column.take(rows) if isinstance(column, Cells) else column[rows]
            for name, column in self.columns.items()
        }
        return replace(self, columns=columns, places=self.places[rows])

    def fingerprint(self) -> str:
        """Return a digest of all names and values: equal for equal data."""
        digest = hashlib.sha256()
        for name, column in self.columns.items():
            parts: list[Any] = [column]
            if isinstance(column, Cells):
                parts = [column.numbers.values]
                if not column.is_number():
                    texts = column.texts
                    order = np.argsort(np.array(texts.levels, np.dtypes.StringDType()))
                    ranks = np.empty(len(order), np.int32)
                    ranks[order] = np.arange(len(order), dtype=np.int32)
                    listed = "\x1f".join(texts.levels[code] for code in order.tolist())
                    parts = [np.frombuffer(listed.encode(), np.uint8), ranks[texts.codes]]
            kind = "texts" if isinstance(column, Cells) else str(column.dtype)
            digest.update(f"{name}\x1e{kind}\x1e{[part.nbytes for part in parts]}\x1e".encode())
            for part in parts:
                digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


def load(data: str | os.PathLike[str], how: Reading = AS_FOUND) -> Table:
    """Return the table that ``data`` names: a bundled set, an ``.npz`` or a CSV file.

    Args:
        data: its name; ``-`` is the standard input, a CSV file.
        how: a CSV file is to be read.

    Raises:
        InputError: there is no such set or file (the nearest is suggested), or it can't be read.
    """
    name = os.fspath(data)
    if name in datasets.NAMES:
        return _numbered(name, datasets.load(name))
    path = Path(name)
    if name != source.STDIN:
        if path.is_dir():
            raise InputError(f"{name} is a folder; name a file in it")
        if not path.exists():
            raise _not_there(path)
        if path.is_char_device() or path.is_block_device():
            raise InputError(f"{name} is a device, which has no end or no rows; name a file")
    try:
        if path.suffix == ".npz":
            return _numbered(name, npzfile.read(path))
        read = csvfile.read(name, how)
    except OSError as error:
        raise InputError(f"{name} can't be read: {error.strerror or error}") from error
    again = Reading(missing=how.missing, decimal=how.decimal, usual=read.decimal)
    return Table(
        source.named(name), read.columns, read.lines, "line", read.notes, again, read.blank
    )


def number_text(value: float | int | bool) -> str:
    """Return a number as people write it: 3, not 3.0; empty if it is NaN."""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        if value.is_integer():
            return str(int(value))
    return str(value)


def _not_there(path: Path) -> InputError:
    """Return the error for a file that does not exist."""
    try:
        beside = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    except OSError:
        return InputError(f"there is no file {str(path)!r}, nor its folder {str(path.parent)!r}")
    close = difflib.get_close_matches(path.name, [*datasets.NAMES, *beside], n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return InputError(
        f"there is no file {str(path)!r}; {hint}bundled sets: {', '.join(datasets.NAMES)}"
    )


def _numbered(origin: str, columns: Mapping[str, NDArray[Any]]) -> Table:
    return Table(origin, columns, np.arange(len(next(iter(columns.values())))))
