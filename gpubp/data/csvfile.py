"""Reads a CSV file with a header into columns of texts.

The dialect is RFC 4180's: fields may be quoted, a quote in them doubled. The text is UTF-8, with or
without a byte order mark. The delimiter is that of ``, ; tab |`` which parts the header most.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.errors import InputError

# Texts that stand for a missing value, in any case.
MISSING = ("", "na", "n/a", "nan", "null", "none", "?")

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}
_BLOCK_ROWS = 16384

Columns = dict[str, NDArray[Any]]


def read(path: Path) -> tuple[Columns, NDArray[np.int64], tuple[str, ...]]:
    """Return a file's columns, the line of each row, and what was done, a sentence each.

    The columns are texts; the empty text stands for a missing value.

    Raises:
        InputError: the file is empty or not UTF-8, has no header or no rows, a name appears
            twice, a row has more or fewer fields than the header (the line is named), or a quote
            is not closed.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        lines = _decoded(file, path)
        opening = _through_header(lines, path)
        delimiter = max(_DELIMITERS, key=lambda each: len(_fields(opening[-1], each)))
        rows = _rows(csv.reader(chain(opening, lines), delimiter=delimiter, strict=True), path)
        _, header = next(rows, (0, []))
        names, notes = _header(header, path)
        blocks = list(_blocks(rows))
    if not blocks:
        raise InputError(f"{path} has a header but no rows")
    lines_of_rows, *cells = map(np.concatenate, zip(*blocks, strict=True))
    columns = dict(zip(names, cells, strict=True))
    if delimiter != ",":
        notes.append(f"fields are separated by {_DELIMITERS[delimiter]}")
    if delimiter == ";":
        notes += _read_decimal_commas(columns)
    return columns, lines_of_rows, tuple(notes)


def _decoded(file: Iterable[bytes], path: Path) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8; save the "
                "file as CSV in UTF-8 (gpubp reads .npz and CSV files)"
            ) from error
        if "\0" in text:
            raise InputError(f"{path}, line {number}: not text; gpubp reads .npz and CSV files")
        yield text


def _through_header(lines: Iterator[str], path: Path) -> list[str]:
    """Return the lines up to the first that is not blank."""
    opening = []
    for line in lines:
        opening.append(line)
        if line.strip():
            return opening
    raise InputError(f"{path} is empty")


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error:  # what is wrong is said when the rows are read
        return []


def _rows(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of the rows that are not blank; the first is the header."""
    width = None
    try:
        for row in reader:
            if not any(row) and len(row) < 2:
                continue
            width = len(row) if width is None else width
            if len(row) != width:
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, but the header has {width}"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: {error} (is a quote missing?)"
        ) from error


def _header(fields: list[str], path: Path) -> tuple[list[str], list[str]]:
    """Return the names of the columns, and what there is to say about them."""
    names = [field.strip() for field in fields]
    if not any(names):
        raise InputError(f"{path} is empty")
    if all(_is_number(name) for name in names):
        raise InputError(
            f"{path}: the first line holds numbers; put a header with the columns' names above it"
        )
    unnamed = [index for index, name in enumerate(names) if not name]
    for index in unnamed:
        names[index] = f"column {index + 1}"
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path}: column {name!r} appears {count} times in the header; rename it")
    return names, [f"the header names no column {index + 1}" for index in unnamed]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _blocks(rows: Iterator[tuple[int, list[str]]]) -> Iterator[list[NDArray[Any]]]:
    """Yield the rows in blocks, as the vector of lines and those of the columns.

    Texts take less room in an array than as Python objects.
    """
    while block := list(islice(rows, _BLOCK_ROWS)):
        lines, fields = zip(*block, strict=True)
        yield [np.array(lines), *map(_column, zip(*fields, strict=True))]


def _column(cells: tuple[str, ...]) -> NDArray[Any]:
    texts = np.strings.strip(np.array(cells, np.dtypes.StringDType()))
    texts[np.isin(np.strings.lower(texts), np.array(MISSING, np.dtypes.StringDType()))] = ""
    return texts


def _read_decimal_commas(columns: Columns) -> list[str]:
    """Replace decimal commas by points in columns of numbers; return what was done."""
    changed = []
    for name, column in columns.items():
        pointed = np.strings.replace(column, ",", ".")
        if (pointed != column).any() and all(_is_number(text) for text in pointed[pointed != ""]):
            columns[name] = pointed
            changed.append(name)
    return [f"decimal commas were read in {', '.join(changed)}"] if changed else []
