"""Finds the fields of a CSV file: where each begins and ends in the file's bytes.

The dialect is RFC 4180's: a field may be quoted, a quote in it doubled. Such a file is cut by
operations on arrays, a piece at a time, so that millions of fields take a fraction of a second. A
file with other quotes (``5" pipe``) is read by the csv module instead, as it reads it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.errors import InputError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "|"}

_PIECE = 1 << 19  # bytes that a processor's cache holds with what is computed of them
_TOLD = 50  # rows that tell the delimiter
_LARGEST = 1 << 17  # bytes of a field: the csv module's limit; more is a quote that is missing
_QUOTE, _LINE_FEED = b'"\n'
_BLANKS = np.zeros(256, np.bool_)
_BLANKS[[*b" \t\v\f", *range(28, 32)]] = True

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive rows of a file.

    Attributes:
        data: the bytes that the fields lie in; quotes within a field are doubled.
        starts, ends: (columns, rows) where each field lies there, without quotes and blanks around.
        lines: (rows,) of each row in the file, where it ends.
    """

    data: NDArray[np.uint8]
    starts: Places
    ends: Places
    lines: Places


class Fields(Iterator[Piece]):
    """The pieces of a file, the header the first row of the first.

    A blank line is a row of one empty field where there is one column, and else left out.

    Attributes:
        blank, first_blank: how many blank lines were left out below the header, and the first.
    """

    def __init__(self, data: bytes, delimiter: str, origin: str) -> None:
        self.blank = self.first_blank = 0
        self._origin = origin
        self._width = 0
        self._delimiter = delimiter
        self._data = data if data.endswith(b"\n") else data + b"\n"
        self._pieces = self._find()

    def __next__(self) -> Piece:
        """Return the next rows.

        Raises:
            InputError: a row has more or fewer fields than the header, or a quote is not closed
                (the line is named).
        """
        return next(self._pieces)

    def _find(self) -> Iterator[Piece]:
        data, first, lines = np.frombuffer(self._data, np.uint8), 0, 0
        quoted = b'"' in self._data
        while first < len(data):
            cut = self._cut(data[first:], quoted)
            if cut is None:
                yield from self._by_csv_module(first, lines)
                return
            separators, ends, length, count = cut
            piece = self._piece(data[first : first + length], separators, ends + lines, quoted)
            lines += count
            if piece is not None:
                piece.starts[:] += first
                piece.ends[:] += first
                yield Piece(data, piece.starts, piece.ends, piece.lines)
            first += length

    def _cut(
        self, rest: NDArray[np.uint8], quoted: bool
    ) -> tuple[NDArray[np.bool_], Places, int, int] | None:
        """Return where the first rows of what is left have ends of fields, and their lines.

        That is: whether each byte is one; the line of each row; how many bytes and how many lines
        they are. None if quotes do not stand where RFC 4180 has them.
        """
        size = _PIECE
        while True:
            piece = rest[:size]
            feeds = piece == _LINE_FEED
            outer = feeds
            if quoted:
                quotes = piece == _QUOTE
                outside = (np.add.accumulate(quotes, dtype=np.uint8) & 1) == 0
                outer = feeds & outside
            last = len(piece) - int(outer[::-1].argmax())
            if outer[last - 1]:
                break
            if size >= len(rest):
                return None  # a quote is not closed
            size *= 2
        separators = piece[:last] == ord(self._delimiter)
        if quoted:
            separators &= outside[:last]
        separators |= outer[:last]
        if quoted and not _proper(quotes[:last], separators):
            return None
        if not quoted:
            count = int(np.count_nonzero(feeds[:last]))
            return separators, np.arange(1, count + 1), last, count
        counts = np.cumsum(feeds[:last], dtype=np.int32)
        return separators, counts[outer[:last]].astype(np.int64), last, int(counts[-1])

    def _piece(
        self, data: NDArray[np.uint8], separators: NDArray[np.bool_], lines: Places, quoted: bool
    ) -> Piece | None:
        """Return the fields of some rows; None if all of them are blank."""
        ends = np.flatnonzero(separators)
        starts = np.empty_like(ends)
        starts[0] = 0
        starts[1:] = ends[:-1] + 1
        row_ends = np.flatnonzero(data[ends] == _LINE_FEED)
        if quoted:
            inner = data[starts] == _QUOTE
            starts += inner
            ends -= inner
        _trim(data, starts, ends)
        counts = np.diff(row_ends, prepend=-1)
        if not self._width or (counts != self._width).any() or self._width == 1:
            kept = self._checked(counts, starts[row_ends] >= ends[row_ends], lines)
            fields = np.repeat(kept, counts)
            starts, ends, lines = starts[fields], ends[fields], lines[kept]
        if not len(lines):
            return None
        if int((ends - starts).max()) > _LARGEST:
            row = int((ends - starts).argmax()) // self._width
            raise InputError(
                f"{self._origin}, line {lines[row]}: field larger than field limit ({_LARGEST}) "
                "(is a quote missing?)"
            )
        starts, ends = (
            np.ascontiguousarray(each.reshape(-1, self._width).T) for each in (starts, ends)
        )
        return Piece(data, starts, ends, lines)

    def _checked(
        self, counts: Places, empty: NDArray[np.bool_], lines: Places
    ) -> NDArray[np.bool_]:
        """Return which rows are no blank lines; those must have the header's number of fields.

        Args:
            counts: of each row's fields.
            empty: whether its last field is.
            lines: of each row.
        """
        blank: NDArray[np.bool_] = empty & (counts == 1)
        headed = bool(self._width)
        if not headed:
            if blank.all():
                return np.logical_not(blank)
            header = int((~blank).argmax())
            self._width = int(counts[header])
            if self._width == 1:
                blank[header:] = False
        elif self._width == 1:
            blank[:] = False
        wrong = (counts != self._width) & ~blank
        if wrong.any():
            row = int(wrong.argmax())
            raise self._wrong(int(counts[row]), int(lines[row]))
        below = blank if headed else blank & (np.arange(len(blank)) > header)
        if below.any():
            self.first_blank = self.first_blank or int(lines[below][0])
            self.blank += int(below.sum())
        return np.logical_not(blank)

    def _wrong(self, count: int, line: int) -> InputError:
        return InputError(
            f"{self._origin}, line {line}: {count} field{'s' * (count != 1)}, but the header has "
            f"{self._width}"
        )

    def _by_csv_module(self, first: int, lines: int) -> Iterator[Piece]:
        """Yield the rows from a byte on, ``lines`` lines down, as the csv module reads them."""
        text = self._data[first:].decode()
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self._delimiter, strict=True)
        rows = self._rows(reader, lines)
        while block := list(islice(rows, 1 << 14)):
            cells = [cell.strip().replace('"', '""').encode() for _, row in block for cell in row]
            ends = np.cumsum([len(cell) for cell in cells], dtype=np.int64)
            starts = np.concatenate(([0], ends[:-1]))
            starts, ends = (
                np.ascontiguousarray(each.reshape(len(block), -1).T) for each in (starts, ends)
            )
            data = np.frombuffer(b"".join(cells) + b"\n", np.uint8)
            yield Piece(data, starts, ends, np.array([line for line, _ in block]))

    def _rows(self, reader: Any, above: int) -> Iterator[tuple[int, list[str]]]:
        """Yield (line, fields) of the rows."""
        try:
            for row in reader:
                line = above + reader.line_num
                if len(row) < 2 and not any(cell.strip() for cell in row):
                    if self._width == 1:
                        yield line, [""]
                    elif self._width:
                        self.blank += 1
                        self.first_blank = self.first_blank or line
                    continue
                self._width = self._width or len(row)
                if len(row) != self._width:
                    raise self._wrong(len(row), line)
                yield line, row
        except csv.Error as error:
            raise InputError(
                f"{self._origin}, line {above + reader.line_num}: {error} (is a quote missing?)"
            ) from error


def delimiter(data: bytes) -> str:
    """Return the delimiter that parts the first rows most, and all alike if one does."""
    opening = data[: 1 << 16].decode(errors="ignore")

    def parts(delimiter: str) -> tuple[bool, int]:
        reader = csv.reader(io.StringIO(opening, newline=""), delimiter=delimiter)
        widths = []
        try:
            for row in reader:
                if len(row) > 1 or any(row):
                    widths.append(len(row))
                if len(widths) == _TOLD:
                    break
        except csv.Error:  # what is wrong is said when the rows are read
            pass
        # The last row may be cut off with the opening.
        whole = widths[:-1] if len(data) > 1 << 16 and 1 < len(widths) < _TOLD else widths
        return len(set(whole)) == 1 and widths[0] > 1, widths[0] if widths else 0

    return max(DELIMITERS, key=parts)


def _proper(quotes: NDArray[np.bool_], separators: NDArray[np.bool_]) -> bool:
    """Return whether each quote opens or closes a field, or is half of a doubled one.

    The bytes end with a separator, and begin a field.
    """
    places = np.flatnonzero(quotes)
    opening, closing = places[::2], places[1::2]
    begins = separators[opening - 1] | quotes[opening - 1]
    begins[opening == 0] = True
    ends = separators[closing + 1] | quotes[closing + 1]
    return bool(begins.all() and ends.all())


def _trim(data: NDArray[np.uint8], starts: Places, ends: Places) -> None:
    """Move starts and ends of fields past the blanks around them."""
    while True:
        blank = _BLANKS[data[starts]] & (starts < ends)
        if not blank.any():
            break
        starts += blank
    while True:
        blank = _BLANKS[data[ends - 1]] & (starts < ends)
        if not blank.any():
            break
        ends -= blank
