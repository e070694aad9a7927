"""Reads a CSV file with a header into columns of texts.

The dialect is RFC 4180's: fields may be quoted, a quote in them doubled. Lines end with a line
feed, a carriage return or both. The text is UTF-8, UTF-16 with or without a byte order mark, or
else Latin-1 as Windows has it (1252); it may be compressed by gzip. The delimiter is that of
``, ; tab |`` which parts the header most.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import sys
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.data import numerals
from gpubp.errors import InputError

# Texts that stand for a missing value: those of pandas, and "?", each in any case.
MISSING = (
    "", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>",
    "n/a", "na", "nan", "none", "null", "?",
)  # fmt: skip
STDIN = "-"  # the name of the standard input

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}
_BLOCK_ROWS = 16384

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Read:
    """What a file holds.

    Attributes:
        columns: texts; the empty text stands for a missing value.
        numbers: those of them that are numbers, NaN where missing.
        nones: where a column of texts says None, which may be missing or a class of that name.
        lines: of each row.
        notes: what was done, a sentence each.
    """

    columns: Columns
    numbers: dict[str, NDArray[np.float64]]
    nones: dict[str, NDArray[np.bool_]]
    lines: NDArray[np.int64]
    notes: tuple[str, ...]


def read(path: Path, encoding: str | None = None, missing: Sequence[str] | None = None) -> Read:
    """Return what a CSV file holds; the name ``-`` is the standard input.

    Args:
        path: the file.
        encoding: of the text; None finds it out.
        missing: the texts that stand for a missing value beside the empty one, in any case; None
            takes :data:`MISSING`.

    Raises:
        InputError: the file is empty or no text, has no header or no rows, a name appears twice, a
            row has more or fewer fields than the header (the line is named), a quote is not closed,
            or its numbers are written in two ways.
        OSError: it can't be read.
    """
    text, notes = _text(path, encoding)
    delimiter = _delimiter(text)
    rows = _Rows(text, delimiter, path)
    header = next(rows, None)
    if header is None:
        raise InputError(f"{path} is empty")
    names, said = _header(header[1], path)
    markers = frozenset(MISSING if missing is None else ("", *(m.strip().lower() for m in missing)))
    blocks = list(_blocks(rows, markers))
    if not blocks:
        raise InputError(f"{path} has a header but no rows")
    lines, *pairs = zip(*blocks, strict=True)
    line_of_row = np.concatenate(lines)
    columns, numbers, nones = {}, {}, {}
    for name, of_blocks in zip(names, pairs, strict=True):
        texts, values, none = zip(*of_blocks, strict=True)
        columns[name] = np.concatenate(texts)
        if any(none_here.any() for none_here in none):
            nones[name] = np.concatenate(none)
        if all(of_block is not None for of_block in values):
            numbers[name] = np.concatenate(values)
    if delimiter != ",":
        said.append(f"fields are separated by {_DELIMITERS[delimiter]}")
    if rows.blank:
        said.append(f"left out {rows.blank} blank lines, the first at line {rows.first_blank}")
    plain, read_so = numerals.plain(
        columns, numbers, semicolons=delimiter == ";",
        place=lambda row: f"line {line_of_row[row]}",
    )  # fmt: skip
    return Read(columns, numbers | plain, nones, line_of_row, (*notes, *said, *read_so))


def _text(path: Path, encoding: str | None) -> tuple[str, list[str]]:
    """Return a file's text, and what was done to get it."""
    data = sys.stdin.buffer.read() if str(path) == STDIN else path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path} can't be unpacked by gzip: {error}") from error
    notes: list[str] = []
    name = encoding or _encoding(data)
    try:
        text = data.decode(name)
    except LookupError as error:
        raise InputError(
            f"there is no encoding {encoding!r}; try utf-8, utf-16 or cp1252"
        ) from error
    except UnicodeDecodeError as error:
        if encoding:
            raise InputError(
                f"{path}, line {_line(data, error.start)}: byte 0x{data[error.start]:02x} is not "
                f"{encoding}; leave the encoding out and it is found out"
            ) from error
        text = data.decode("cp1252", errors="replace")
        notes.append(
            f"read as Latin-1 (Windows-1252): byte 0x{data[error.start]:02x} at line "
            f"{_line(data, error.start)} is not UTF-8; another encoding has to be named"
        )
    if "\0" in text:
        raise InputError(
            f"{path}, line {text.count(chr(10), 0, text.index(chr(0))) + 1}: not text; gpubp reads "
            ".npz and CSV files"
        )
    return text, notes


def _encoding(data: bytes) -> str:
    """Return the encoding that a file's first bytes tell."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    first = data[:1000]
    if len(first) > 1 and len(first) % 2 == 0:
        for order, zeros, others in (
            ("le", first[1::2], first[::2]),
            ("be", first[::2], first[1::2]),
        ):
            if not any(zeros) and all(others):
                return f"utf-16-{order}"
    return "utf-8-sig"


def _line(data: bytes, place: int) -> int:
    return data.count(b"\n", 0, place) + 1


def _delimiter(text: str) -> str:
    """Return the delimiter that parts the first line that is not blank most, quotes heeded."""
    opening = text[: 1 << 20].lstrip()

    def parts(delimiter: str) -> int:
        try:
            return len(next(csv.reader(io.StringIO(opening, newline=""), delimiter=delimiter), []))
        except csv.Error:  # what is wrong is said when the rows are read
            return 0

    return max(_DELIMITERS, key=parts)


class _Rows(Iterator[tuple[int, list[str]]]):
    """The (line, fields) of a file's rows, of which the first is the header.

    A blank line is a row where there is one column, a value that is missing, and else nothing.
    """

    def __init__(self, text: str, delimiter: str, path: Path) -> None:
        self._reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        self._path = path
        self._width = 0
        self.blank, self.first_blank = 0, 0

    def __next__(self) -> tuple[int, list[str]]:
        try:
            for row in self._reader:
                if len(row) < 2 and not any(cell.strip() for cell in row):
                    if self._width == 1:
                        return self._reader.line_num, [""]
                    if self._width:
                        self.blank += 1
                        self.first_blank = self.first_blank or self._reader.line_num
                    continue
                self._width = self._width or len(row)
                if len(row) != self._width:
                    raise InputError(
                        f"{self._path}, line {self._reader.line_num}: {len(row)} fields, but the "
                        f"header has {self._width}"
                    )
                return self._reader.line_num, row
        except csv.Error as error:
            raise InputError(
                f"{self._path}, line {self._reader.line_num}: {error} (is a quote missing?)"
            ) from error
        raise StopIteration


def _header(fields: list[str], path: Path) -> tuple[list[str], list[str]]:
    """Return the names of the columns, and what there is to say about them."""
    names = [unicodedata.normalize("NFC", field.strip()) for field in fields]
    if not any(names):
        raise InputError(f"{path} is empty")
    numbers = [name for name in names if numerals.is_numeral(name)]
    if len(numbers) == len(names) or any(set(name) & set(".eE") for name in numbers):
        raise InputError(
            f"{path}: the first line holds numbers such as {numbers[0]}; put a header with the "
            "columns' names above it"
        )
    unnamed = [index for index, name in enumerate(names) if not name]
    for index in unnamed:
        names[index] = f"column {index + 1}"
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path}: column {name!r} appears {count} times in the header; rename it")
    return names, [f"the header names no column {index + 1}" for index in unnamed]


def _blocks(rows: Iterator[tuple[int, list[str]]], missing: frozenset[str]) -> Iterator[list[Any]]:
    """Yield the rows in blocks, as the vector of lines and those of the columns.

    Texts take less room in an array than as Python objects.
    """
    while block := list(islice(rows, _BLOCK_ROWS)):
        lines, fields = zip(*block, strict=True)
        yield [np.array(lines), *(_column(cells, missing) for cells in zip(*fields, strict=True))]


def _column(
    cells: tuple[str, ...], missing: frozenset[str]
) -> tuple[NDArray[Any], NDArray[np.float64] | None, NDArray[np.bool_]]:
    """Return texts without blanks around them, empty where missing; their numbers; and the Nones.

    The numbers are None if one is no number.
    """
    texts = [cell.strip() for cell in cells]
    gone = {text for text in set(texts) if text.lower() in missing} - {""}
    none = np.zeros(len(texts), np.bool_)
    if gone:
        none[:] = [text == "None" for text in texts]
        texts = ["" if text in gone else text for text in texts]
    return np.array(texts, np.dtypes.StringDType()), numerals.quantities(texts), none
