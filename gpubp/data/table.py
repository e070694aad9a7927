"""A table of named columns, and where it comes from: a bundled set, an ``.npz`` or a CSV file.

What the columns mean is decided elsewhere: target.py says what is predicted, preprocessing.py what
the rest becomes.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.data import csvfile, datasets, numerals
from gpubp.errors import InputError
from gpubp.kernels.contract import REAL_DTYPES

Column = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Named columns of one length.

    A column is a vector of a real dtype, NaN where a value is missing; or of texts (NumPy's
    ``StringDType``), empty where one is missing. Every column of a CSV file is of texts: whether
    they are numbers is asked of the training data, and then holds for new data too.

    Attributes:
        origin: the file or set, as messages name it.
        columns: name -> (N,) column.
        places: (N,) where messages say that a row is: its line in a CSV file, else its number,
            counted from 0.
        unit: what ``places`` counts, "line" or "row".
        parsed: the columns of texts that are numbers, as such; None asks the texts.
        nones: where a column of texts says None, which is missing, or a class of that name.
        notes: what was done on reading, a sentence each.
    """

    origin: str
    columns: dict[str, Column]
    places: NDArray[np.int64]
    unit: str = "row"
    notes: tuple[str, ...] = ()
    parsed: dict[str, NDArray[np.float64]] | None = None
    nones: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

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
        return self.columns[name]

    def missing(self, name: str) -> NDArray[np.bool_]:
        """Return where a column has no value."""
        column = self.column(name)
        absent: NDArray[np.bool_] = column == "" if is_text(column) else np.isnan(column)
        return absent

    def is_numeric(self, name: str) -> bool:
        """Return whether every value of a column is a number, and there is one."""
        column = self.column(name)
        if not is_text(column):
            return not self.missing(name).all()
        values = self._parsed(name)
        return values is not None and not bool(np.isnan(values).all())

    def _parsed(self, name: str) -> NDArray[np.float64] | None:
        """Return a column of texts as numbers; None if it is not one of numbers."""
        if self.parsed is None:
            return numerals.quantities(self.column(name).tolist())
        return self.parsed.get(self.named(name))

    def odd(self, name: str) -> tuple[float, NDArray[np.bool_]]:
        """Return the part of a column's values that are numbers, and where the others are."""
        column = self.column(name)
        if not is_text(column):
            return 1.0, np.zeros(self.rows, np.bool_)
        present = column != ""
        odd = present & np.isnan(numerals.parse(column.tolist()))
        return 1 - odd.sum() / max(1, present.sum()), odd

    def numbers(self, name: str, others: Sequence[str] = ()) -> NDArray[np.float64]:
        """Return a column as numbers, NaN where missing and where it has one of ``others``.

        Raises:
            InputError: a value is not a number or not finite (the first is named).
        """
        column = self.column(name)
        if is_text(column):
            parsed = self._parsed(name)
            values = numerals.parse(column.tolist()) if parsed is None else parsed.copy()
        else:
            values = column.astype(np.float64)
        bad = ~np.isfinite(values) & ~self.missing(name)
        if others and is_text(column):
            bad &= ~np.isin(column, np.array(others, np.dtypes.StringDType()))
        if bad.any():
            raise InputError(
                f"{self.origin}: column {name!r} has {str(column[bad][0])!r} at {self.place(bad)}, "
                "where a finite number is needed; correct it or leave it empty"
            )
        return values

    def texts(self, name: str) -> Column:
        """Return a column as texts: numbers as people write them, 3 rather than 3.0."""
        column = self.column(name)
        if is_text(column):
            return column
        return np.array([_written(value) for value in column.tolist()], np.dtypes.StringDType())

    def take(self, rows: NDArray[np.intp]) -> Table:
        """Return the table of some of the rows, in that order."""
        columns, parsed, nones = (
            None if held is None else {name: column[rows] for name, column in held.items()}
            for held in (self.columns, self.parsed, self.nones)
        )
        assert columns is not None  # only what is parsed may be
        assert nones is not None
        return replace(self, columns=columns, places=self.places[rows], parsed=parsed, nones=nones)

    def with_nones(self, name: str) -> Table:
        """Return the table with None as a text in a column of other texts, not as missing."""
        where = self.nones.get(self.named(name))
        if where is None or self.is_numeric(name) or bool(self.missing(name).all()):
            return self
        column = self.column(name).copy()
        column[where] = "None"
        return replace(self, columns={**self.columns, self.named(name): column})

    def fingerprint(self) -> str:
        """Return a digest of all names and values: equal for equal data."""
        digest = hashlib.sha256()
        for name, column in self.columns.items():
            content = "\x1f".join(column.tolist()).encode() if is_text(column) else column.tobytes()
            digest.update(f"{name}\x1e{column.dtype}\x1e{len(content)}\x1e".encode())
            digest.update(content)
        return digest.hexdigest()


def load(
    source: str | os.PathLike[str],
    encoding: str | None = None,
    missing: Sequence[str] | None = None,
) -> Table:
    """Return the table that ``source`` names: a bundled set, an ``.npz`` or a CSV file.

    Args:
        source: its name; ``-`` is the standard input, a CSV file.
        encoding, missing: of a CSV file, as :func:`gpubp.data.csvfile.read` takes them.

    Raises:
        InputError: there is no such set or file (the nearest is suggested), or it can't be read.
    """
    name = os.fspath(source)
    if name in datasets.NAMES:
        return _numbered(name, datasets.load(name))
    path = Path(name)
    if name == csvfile.STDIN:
        return _of_csv("the standard input", csvfile.read(path, encoding, missing))
    if path.is_dir():
        raise InputError(f"{name} is a folder; name a file in it")
    if not path.exists():
        raise _not_there(path)
    if path.is_char_device() or path.is_block_device():
        raise InputError(f"{name} is a device, which has no end or no rows; name a file")
    try:
        if path.suffix == ".npz":
            return _load_npz(path)
        return _of_csv(name, csvfile.read(path, encoding, missing))
    except OSError as error:
        raise InputError(f"{name} can't be read: {error.strerror or error}") from error


def _of_csv(origin: str, read: csvfile.Read) -> Table:
    return Table(origin, read.columns, read.lines, "line", read.notes, read.numbers, read.nones)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about a name that is not among those known."""
    names = list(known)
    folded = {known_name.casefold(): known_name for known_name in names}
    close = difflib.get_close_matches(name.casefold(), folded, n=1)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    return f"there are: {shorten(names)}"


def shorten(names: Iterable[object], limit: int = 8) -> str:
    """Return names separated by commas, the first few of them if there are many."""
    every = [str(name) for name in names]
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more


def is_text(column: Column) -> bool:
    """Return whether a column is of texts."""
    return isinstance(column.dtype, np.dtypes.StringDType)


def _written(value: float | int | bool) -> str:
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


def _load_npz(path: Path) -> Table:
    """Return the arrays of a file: of rank 1 a column each, of a higher rank a column an element.

    The column of element j of the flattened rows of an array ``X`` is named ``X[j]``.
    """
    columns: dict[str, Column] = {}
    try:
        # The file is opened here because np.load leaves it open where it fails.
        with (
            path.open("rb") as file,
            zipfile.ZipFile(file),
            np.load(file, allow_pickle=False) as arrays,
        ):
            for name in arrays.files:
                columns.update(_columns(name, arrays[name]))
    except MemoryError as error:
        raise InputError(f"{path} does not fit into memory: {error}") from error
    # Encrypted, of another compression, or of bytes that are no array.
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        LookupError,
        RuntimeError,
    ) as error:
        raise InputError(f"{path} can't be read as an .npz file: {error}") from error
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        sizes = shorten(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{path}: the arrays differ in their number of rows: {sizes}")
    if not columns or not next(iter(lengths.values())):
        raise InputError(f"{path} holds no rows")
    return _numbered(str(path), columns)


def _numbered(origin: str, columns: dict[str, Column]) -> Table:
    return Table(origin, columns, np.arange(len(next(iter(columns.values())))))


def _columns(name: str, array: NDArray[Any]) -> dict[str, Column]:
    if not isinstance(array, np.ndarray):  # bytes: NumPy's word for a member that is not .npy
        raise ValueError(f"{name!r} in it is not an array; leave it out")
    if array.ndim == 0:
        raise ValueError(f"array {name!r} is a single value; every array needs a value a row")
    if array.dtype.kind in "SU":
        array = array.astype(np.str_).astype(np.dtypes.StringDType())
    elif array.dtype.name == "float16":
        array = array.astype(np.float32)
    elif array.dtype.name not in REAL_DTYPES:
        raise ValueError(f"array {name!r} has dtype {array.dtype}; numbers or texts are needed")
    # Columns are used one by one: transposed once, each lies in one piece.
    flat = np.ascontiguousarray(array.reshape(len(array), math.prod(array.shape[1:])).T)
    if len(flat) == 1:
        return {name: flat[0]}
    return {f"{name}[{element}]": column for element, column in enumerate(flat)}
