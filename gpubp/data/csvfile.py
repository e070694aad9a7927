"""Reads a CSV file with a header into columns of texts and of numbers.

Where its text comes from is source.py's matter, where its fields are fields.py's, what a number is
numerals.py's and how the file writes numbers notation.py's. The delimiter is that of ``, ; tab |``
by which the first rows are parted most.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.data import fields, notation, numerals, source
from gpubp.data.cells import Cells
from gpubp.data.fields import Piece
from gpubp.data.numerals import Parsed
from gpubp.errors import InputError

_CELLS = 1 << 14  # read at a time, that a processor's cache holds, and more than a call costs


@dataclass(frozen=True, slots=True)
class Reading:
    """How a CSV file is to be read; None where that is found out.

    Attributes:
        encoding: of the text.
        missing: the texts that stand for a missing value, beside the empty one; None takes those of
            :data:`gpubp.data.cells.MISSING`, and None among numbers.
        decimal: "point" or "comma", whatever the file looks like.
        usual: that which it is where the file does not tell.
    """

    encoding: str | None = None
    missing: tuple[str, ...] | None = None
    decimal: str | None = None
    usual: str | None = None


AS_FOUND = Reading()


@dataclass(frozen=True, slots=True)
class Read:
    """What a file holds.

    Attributes:
        columns: by their names.
        lines: (N,) of each row.
        notes: what was done, a sentence each.
        decimal: how its numbers are written; None if nothing tells.
        blank: how many blank lines are no rows.
    """

    columns: dict[str, Cells]
    lines: NDArray[np.int64]
    notes: tuple[str, ...]
    decimal: str | None
    blank: int


def read(path: str, how: Reading = AS_FOUND) -> Read:
    """Return what a CSV file holds; the name ``-`` is the standard input.

    Raises:
        InputError: the file is empty or no text, has no header or no rows, a name appears twice, a
            row has more or fewer fields than the header (the line is named), a quote is not closed,
            or its numbers are written in two ways.
        OSError: it can't be read.
    """
    origin = source.named(path)
    data, notes = source.text(path, how.encoding)
    delimiter = fields.delimiter(data)
    found = fields.Fields(data, delimiter, origin)
    first = next(found, None)
    if first is None:
        raise InputError(f"{origin} is empty")
    header = _texts(first)
    names, said = _header(header, origin)
    lines, columns = _columns(names, chain([_below(first)], found), how.missing, len(data))
    if not len(lines):
        raise InputError(f"{origin} has a header but no rows")
    _check_headed(header, columns, origin)
    if delimiter != ",":
        said.append(f"fields are separated by {fields.DELIMITERS[delimiter]}")
    if found.blank:
        count = f"{found.blank} blank line{'s' * (found.blank > 1)}"
        said.append(f"left out {count}, the first at line {found.first_blank}")
    columns, decimal, read_so = notation.read(
        columns,
        origin=origin,
        place=lambda row: f"line {lines[row]}",
        semicolons=delimiter == ";",
        decimal=how.decimal,
        usual=how.usual,
    )
    return Read(columns, lines, (*notes, *said, *read_so), decimal, found.blank)


def _columns(
    names: Sequence[str], pieces: Iterable[Piece], missing: Sequence[str] | None, size: int
) -> tuple[NDArray[np.int64], dict[str, Cells]]:
    """Return the line of each row, and the columns of a file of ``size`` bytes."""
    # The csv module's rows are written anew, with all their quotes doubled.
    places = np.uint32 if 2 * size < 2**32 else np.int64
    parts: list[tuple[NDArray[Any], ...]] = []
    blocks: list[NDArray[np.uint8]] = []  # of bytes, one after the other
    base = 0
    for piece in pieces:
        if not blocks or piece.data is not blocks[-1]:
            base += len(blocks[-1]) if blocks else 0
            blocks.append(piece.data)
        starts, ends = ((each + base).astype(places) for each in (piece.starts, piece.ends))
        parts.append((piece.lines[None], starts, ends, *_parsed(piece).arrays()))
    lines, starts, ends, *numbers = (
        np.concatenate(each, axis=1) for each in zip(*parts, strict=True)
    )
    data = b"".join(block.data for block in blocks)
    markers = None if missing is None else frozenset(text.strip() for text in missing)
    columns = {
        name: Cells(
            data,
            starts[index],
            ends[index],
            parsed=Parsed(*(each[index] for each in numbers)),
            missing=markers,
        )
        for index, name in enumerate(names)
    }
    return lines[0], columns


def _parsed(piece: Piece) -> Parsed:
    """Return a piece's texts as numbers, (columns, rows), some columns at a time."""
    width, rows = piece.starts.shape
    some = max(1, _CELLS // max(1, rows))
    parts = [
        numerals.parse(
            piece.data,
            piece.starts[first : first + some].ravel(),
            piece.ends[first : first + some].ravel(),
        ).arrays()
        for first in range(0, width, some)
    ]
    return Parsed(*(np.concatenate(each).reshape(width, rows) for each in zip(*parts, strict=True)))


def _texts(piece: Piece) -> list[str]:
    """Return the first row of a piece."""
    return [
        piece.data[start:end].tobytes().decode().replace('""', '"').strip()
        for start, end in zip(piece.starts[:, 0], piece.ends[:, 0], strict=True)
    ]


def _below(piece: Piece) -> Piece:
    """Return a piece without its first row."""
    return Piece(piece.data, piece.starts[:, 1:], piece.ends[:, 1:], piece.lines[1:])


def _header(fields: Sequence[str], origin: str) -> tuple[list[str], list[str]]:
    """Return the names of the columns, and what there is to say about them."""
    names = [unicodedata.normalize("NFC", field) for field in fields]
    if not any(names):
        raise InputError(f"{origin} is empty")
    _check_names(names, origin)
    unnamed = [index for index, name in enumerate(names) if not name]
    for index in unnamed:
        names[index] = f"column {index + 1}"
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(
            f"{origin}: column {name!r} appears {count} times in the header; rename it, or put a "
            "header above if the file has none"
        )
    return names, [f"the header names no column {index + 1}" for index in unnamed]


def _check_names(names: Sequence[str], origin: str) -> None:
    """Refuse numbers for names, unless they are whole ones that rise, such as years."""
    numbers = [name for name in names if numerals.number(name) is not None]
    if not numbers:
        return
    if len(numbers) < len(names) and all(name.isdecimal() for name in numbers):
        whole = [int(name) for name in numbers]
        if whole == sorted(set(whole)):
            return
    raise _headless(origin, numbers[0])


def _check_headed(header: Sequence[str], columns: Mapping[str, Cells], origin: str) -> None:
    """Refuse a header of numbers and values of the columns, or of such values alone."""
    numbers = [name for name in header if numerals.number(name) is not None]
    others = [
        name != "" and not column.is_number() and name in column.texts.levels
        for name, column in zip(header, columns.values(), strict=True)
        if name not in numbers
    ]
    if numbers and any(others):
        raise _headless(origin, numbers[0])
    if len(header) > 1 and not numbers and all(others):
        raise InputError(
            f"{origin}: every name in the first line, such as {header[0]!r}, is a value of its "
            "column, too; put a header with the columns' names above it, and only there"
        )


def _headless(origin: str, number: str) -> InputError:
    return InputError(
        f"{origin}: the first line holds numbers such as {number}; put a header with the columns' "
        "names above it"
    )
