"""A column of texts: as it lies in a file's bytes, as different texts with codes, and as numbers.

Which texts stand for a missing value: those that pandas takes for one, as they are written there,
and "?". "None" is one among numbers, and a value among other texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubp.data import numerals
from gpubp.data.numerals import Parsed

NONE = "None"
MISSING = frozenset({
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
    "<NA>", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null", "?",
})  # fmt: skip

_LONGEST = 32  # bytes of texts that are told apart by numbers of 64 bits; no byte is 0
_FEW = 0.05  # of a column's numbers may look like names though they are none
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio, which spreads bits

Codes = NDArray[np.intp]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts as their codes.

    Attributes:
        levels: the different ones; the empty one is a missing value.
        codes: (N,) which of them each row has.
    """

    levels: tuple[str, ...]
    codes: Codes

    def take(self, rows: Rows) -> Texts:
        """Return those of some rows; of the levels not all need be there."""
        return Texts(self.levels, self.codes[rows])

    def present(self) -> list[str]:
        """Return the levels that are there, sorted."""
        counts = np.bincount(self.codes, minlength=len(self.levels))
        return sorted({level for level, n in zip(self.levels, counts, strict=True) if n})

    def where(self, these: Iterable[str]) -> NDArray[np.bool_]:
        """Return in which rows some texts are."""
        among = set(these)
        hit = np.array([level in among for level in self.levels], np.bool_)
        return hit[self.codes]

    def array(self) -> NDArray[np.str_]:
        """Return the texts as an array of NumPy's StringDType."""
        return np.array(self.levels, np.dtypes.StringDType())[self.codes]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Texts as numbers.

    Attributes:
        values: (N,) NaN where there is none.
        other: (N,) where a text is neither missing nor a number.
        names: rows of numbers that are names made of digits, such as 02134.
        unit: what each number is written with and was left out, such as "$".
    """

    values: NDArray[np.float64]
    other: NDArray[np.bool_]
    names: Rows
    unit: str = ""

    @property
    def present(self) -> NDArray[np.bool_]:
        """Where there is a number."""
        return ~np.isnan(self.values)

    @property
    def share(self) -> float:
        """The part of the values that are numbers; 0 if there is no value."""
        count = int(self.present.sum())
        return count / max(1, count + int(self.other.sum()))

    def take(self, rows: Rows) -> Numbers:
        """Return those of some rows."""
        places = np.flatnonzero(np.isin(rows, self.names)) if len(self.names) else self.names
        return Numbers(self.values[rows], self.other[rows], places, self.unit)


class Cells:
    """A column of texts. Its numbers and its different texts are found when they are asked for."""

    def __init__(
        self,
        data: bytes,
        starts: NDArray[Any],
        ends: NDArray[Any],
        *,
        parsed: Parsed | None = None,
        missing: frozenset[str] | None = None,
    ) -> None:
        """Make a column.

        Args:
            data: UTF-8, in which quotes are doubled.
            starts, ends: (N,) of each text in it, whole numbers.
            parsed: the texts by the grammar of numbers, if they have been read.
            missing: the texts that stand for a missing value; None takes those of
                :data:`MISSING`, and None among numbers.
        """
        self._data, self._starts, self._ends = data, starts, ends
        if parsed is not None:
            self._plain = parsed
        self._missing = MISSING if missing is None else missing | {""}
        self._none = missing is None  # whether None is missing among numbers

    @classmethod
    def of(cls, texts: Sequence[str], missing: frozenset[str] | None = None) -> Cells:
        """Return the column of some texts."""
        each = [text.strip().replace('"', '""').encode() for text in texts]
        ends = np.cumsum([len(text) for text in each], dtype=np.int64)
        starts = np.concatenate((np.zeros(min(1, len(ends)), np.int64), ends[:-1]))
        return cls(b"".join(each) + b"\n", starts, ends, missing=missing)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._starts)

    def take(self, rows: Rows) -> Cells:
        """Return the column of some rows; what was found of all is found of them."""
        return _Part(self, rows)

    def tolist(self) -> list[str]:
        """Return the texts, empty where missing."""
        levels = self.texts.levels
        return [levels[code] for code in self.texts.codes.tolist()]

    def first(self, where: NDArray[np.bool_]) -> str:
        """Return the text of the first row at which a condition holds, as it is written."""
        return self._written(int(where.argmax()))

    def is_number(self) -> bool:
        """Return whether every value is a number and none a name, and there is one."""
        numbers = self.numbers
        return not (self.is_named or numbers.other.any()) and bool(numbers.present.any())

    @cached_property
    def is_named(self) -> bool:
        """Whether its numbers are names made of digits.

        They are if more than a few of them can only be names, if one of these has the length that
        most have, or if it would be the same number as another text.
        """
        numbers = self.numbers
        if not len(numbers.names):
            return False
        if len(numbers.names) > _FEW * numbers.present.sum():
            return True
        texts = self.texts
        counts = np.bincount(texts.codes, minlength=len(texts.levels))
        counts[[not level for level in texts.levels]] = 0
        lengths = np.bincount([len(level) for level in texts.levels], counts)
        names = {texts.levels[code] for code in texts.codes[numbers.names]}
        if any(len(name) == lengths.argmax() for name in names):
            return True
        alike = self.take(np.flatnonzero(np.isin(numbers.values, numbers.values[numbers.names])))
        return len(alike.texts.present()) > len(np.unique(alike.numbers.values))

    def read_as(self, numbers: Numbers) -> Cells:
        """Return the column with other numbers, such as those of decimal commas."""
        column = Cells.__new__(Cells)
        column.__dict__.update(self.__dict__)
        column.numbers = numbers
        return column

    @property
    def pointed(self) -> bool:
        """Whether a number by the grammar has a point."""
        return bool(self._plain.pointed.any())

    def wrong(self, missing: Iterable[str]) -> NDArray[np.bool_]:
        """Return where a column that is to be of numbers has none, and no value that is missing.

        Args:
            missing: texts that stand for one besides the usual.
        """
        other = self.numbers.other
        if not other.any():
            return other
        return other & ~self.texts.where({*missing, NONE} if self._none else missing)

    @cached_property
    def is_missing(self) -> NDArray[np.bool_]:
        """Where there is no value."""
        if self.numbers.share >= 0.5:
            return ~(self.numbers.present | self.numbers.other)
        return self.texts.where([""])

    @cached_property
    def numbers(self) -> Numbers:
        """The column as numbers."""
        parsed = self._plain
        rows = np.flatnonzero(parsed.other)
        if not len(rows):
            return Numbers(parsed.values, parsed.other, np.flatnonzero(parsed.names))
        values, names = parsed.values.copy(), [np.flatnonzero(parsed.names)]
        levels, codes = self._others
        found = np.array([_value(level) for level in levels])[codes]
        kept = np.array([level not in self._missing for level in levels], np.bool_)[codes]
        values[rows[kept]] = found[kept]
        nones = np.array([level == NONE for level in levels], np.bool_)[codes]
        other = parsed.other.copy()
        other[rows[~kept | ~np.isnan(found)]] = False
        count = int((~np.isnan(values)).sum())
        if self._none and count >= int(other.sum()) - int(nones.sum()):
            other[rows[nones]] = False
        named = np.array([numerals.is_name(level) for level in levels], np.bool_)[codes] & kept
        names.append(rows[named & ~np.isnan(found)])
        return Numbers(values, other, np.sort(np.concatenate(names)))

    @cached_property
    def texts(self) -> Texts:
        """The column as different texts."""
        parsed = self._plain
        if np.isnan(parsed.values).all():
            levels, some = self._others
            codes = np.full(len(self), len(levels), np.intp)
            codes[parsed.other] = some
            levels = (*levels, "")
        else:
            levels, codes = self._factor(np.arange(len(self)))
        missing = self._missing
        if self._none and NONE in levels and self.numbers.share >= 0.5:
            missing |= {NONE}
        return _unified(["" if level in missing else level for level in levels], codes)

    @cached_property
    def _others(self) -> tuple[tuple[str, ...], Codes]:
        """The texts that are neither empty nor numbers by the grammar, as different ones."""
        return self._factor(np.flatnonzero(self._plain.other))

    @cached_property
    def _plain(self) -> Parsed:
        """The texts by the grammar of numbers."""
        starts, ends = (each.astype(np.int64) for each in (self._starts, self._ends))
        return numerals.parse(np.frombuffer(self._data, np.uint8), starts, ends)

    def _factor(self, rows: Rows) -> tuple[tuple[str, ...], Codes]:
        """Return the different texts of some rows, and the code of each row."""
        starts, ends = (each[rows].astype(np.int64) for each in (self._starts, self._ends))
        keys = _keys(np.frombuffer(self._data, np.uint8), starts, ends)
        if keys is not None:
            _, first, codes = np.unique(keys, return_index=True, return_inverse=True)
            cells = [self._data[starts[row] : ends[row]] for row in first.tolist()]
        else:
            data = self._data
            each = [data[i:j] for i, j in zip(starts.tolist(), ends.tolist(), strict=True)]
            seen: dict[bytes, int] = {}
            codes = np.array([seen.setdefault(cell, len(seen)) for cell in each], np.intp)
            cells = list(seen)
        found = _unified([_decoded(cell) for cell in cells], codes)
        return found.levels, found.codes

    def _written(self, row: int) -> str:
        return _decoded(self._data[self._starts[row] : self._ends[row]])


class _Part(Cells):
    """Some rows of a column."""

    def __init__(self, whole: Cells, rows: Rows) -> None:
        self._whole, self._rows = whole, rows
        self._none = whole._none

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def is_missing(self) -> NDArray[np.bool_]:
        return self._whole.is_missing[self._rows]

    @cached_property
    def is_named(self) -> bool:
        return self._whole.is_named

    @cached_property
    def numbers(self) -> Numbers:
        return self._whole.numbers.take(self._rows)

    @cached_property
    def texts(self) -> Texts:
        return self._whole.texts.take(self._rows)

    def _written(self, row: int) -> str:
        return self._whole._written(int(self._rows[row]))


def _keys(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.uint64] | None:
    """Return a number for each text, equal for equal texts alone; None if one is long.

    A text of up to 8 bytes is such a number; of a longer one it is a hash, and that no two texts
    have the same is looked at.
    """
    lengths = ends - starts
    longest = int(lengths.max(initial=0))
    if longest > _LONGEST:
        return None
    words = []
    for first in range(0, longest, 8):
        word = np.zeros(len(starts), np.uint64)
        for place in range(first, min(longest, first + 8)):
            byte = data.take(starts + place, mode="clip").astype(np.uint64)
            byte[lengths <= place] = 0
            word |= byte << np.uint64(8 * (place - first))
        words.append(word)
    if len(words) < 2:
        return words[0] if words else np.zeros(len(starts), np.uint64)
    keys = np.zeros(len(starts), np.uint64)
    for word in words:
        keys = (keys ^ word) * _FACTOR
        keys ^= keys >> np.uint64(29)
    _, first_row, codes = np.unique(keys, return_index=True, return_inverse=True)
    if any((word[first_row][codes] != word).any() for word in words):
        return None
    return codes.astype(np.uint64)


def _decoded(cell: bytes) -> str:
    return cell.decode().replace('""', '"').strip()


def _value(text: str) -> float:
    value = numerals.number(text)
    return np.nan if value is None else value


def _unified(levels: Sequence[str], codes: Codes) -> Texts:
    """Return texts of which no two levels are equal."""
    unique = {level: code for code, level in enumerate(dict.fromkeys(levels))}
    if len(unique) == len(levels):
        return Texts(tuple(levels), codes)
    new = np.array([unique[level] for level in levels], np.intp)
    return Texts(tuple(unique), new[codes])
