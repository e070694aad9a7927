"""What a column of a table is: numbers, texts, or a number of the row; by all rows of the table.

A column is of numbers if all its values are, or ``MOSTLY`` of them; the others then stand for a
missing value. It is also if half of them are, of many different ones, and the others are few texts.
Numbers with zeros at the front, or too long for a float64, are names. Whatever is not plain is
said, so that a column of numbers is never lost for one odd value without a word.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpubp.data import names
from gpubp.data.cells import Cells
from gpubp.data.names import shorten
from gpubp.data.notation import MOSTLY
from gpubp.data.table import Table

HALF = 0.5
_COUNTED = 2**53  # beyond it every float64 is a whole number
_MARKERS = 3  # texts that may all stand for a missing value
_SOME = 1000  # rows that mostly tell that two are equal
_MOSTLY_TARGET = 0.9  # of a target's values are numbers: the others are mistakes
FEW = 20  # different values that may as well be codes as quantities


@dataclass(frozen=True, slots=True)
class Kind:
    """What a column is.

    Attributes:
        what: "numbers", "texts", or "rows" of one that only tells rows apart.
        missing: the texts among its numbers that stand for a missing value.
        unit: what each number is written with.
        note: what there is to say about it, if anything.
    """

    what: str
    missing: tuple[str, ...] = ()
    unit: str = ""
    note: str = ""


def of(table: Table, name: str) -> Kind:
    """Return what a column is."""
    column = table.column(name)
    if not isinstance(column, Cells):
        if table.is_numeric(name) or bool(table.missing(name).all()):
            return _numbers(table, name)
        return Kind(
            "texts", note=f"{name}: names, not quantities, because {_too_long(table, name)}"
        )
    if column.is_named:
        return Kind(
            "texts", note=f"{name}: names, not quantities, because {_digits(table, column)}"
        )
    if column.numbers.other.any():
        return _with_others(table, name, column)
    found = replace(_numbers(table, name), unit=column.numbers.unit)
    if len(column.numbers.names):
        return replace(
            found, note=f"{name}: {_digits(table, column)}; read as a number all the same"
        )
    return found


def _with_others(table: Table, name: str, column: Cells) -> Kind:
    """Return the kind of a column that has texts which are neither numbers nor missing."""
    numbers = column.numbers
    others = _others(column)
    present = int(numbers.present.sum())
    usual = numbers.share >= HALF and len(others) <= _MARKERS and _different(numbers.values) > FEW
    first = f"{column.first(numbers.other)!r} at {table.place(numbers.other)}"
    count = f"{present} of {present + int(numbers.other.sum())} are numbers, but {first} is not"
    if numbers.share >= MOSTLY or usual:
        texts = shorten(map(repr, others))
        note = f"{name}: {count}; taken for missing: {texts}"
        return Kind("numbers", tuple(others), numbers.unit, note)
    if numbers.share >= HALF:
        return Kind("texts", note=f"warning: {name} is taken for texts: {count}")
    return Kind("texts")


def told_of_names(table: Table, name: str) -> list[str]:
    """Return a note if new data for a column of numbers look like names made of digits."""
    column = table.column(name)
    if not isinstance(column, Cells) or not column.is_named:
        return []
    return [f"{_digits(table, column)}; read as a number, as in training"]


def wrong_in_target(table: Table, name: str) -> str:
    """Return the first value that is wrong among a target's numbers, and where; "" if none is."""
    column = table.column(name)
    if not isinstance(column, Cells) or column.is_named:
        return ""
    numbers = column.numbers
    if not numbers.other.any() or not numbers.present.any():
        return ""
    others = {text.lower().lstrip("+-") for text in _others(column)}
    many = _different(numbers.values) > FEW
    infinite = others <= {"inf", "infinity"}
    if infinite or (numbers.share >= HALF and many) or numbers.share >= _MOSTLY_TARGET:
        return f"{column.first(numbers.other)!r} at {table.place(numbers.other)}"
    return ""


def _different(values: NDArray[np.float64]) -> int:
    """Return how many different numbers there are; NaN is none."""
    return len(np.unique(values[~np.isnan(values)]))


def _others(column: Cells) -> list[str]:
    return column.take(np.flatnonzero(column.numbers.other)).texts.present()


def _digits(table: Table, column: Cells) -> str:
    """Return why the first of the numbers that may be names is one."""
    where = np.zeros(table.rows, np.bool_)
    where[column.numbers.names] = True
    text = column.first(where)
    why = (
        "begins with a zero"
        if text.lstrip("+-").startswith("0")
        else "has more digits than a float64 holds"
    )
    return f"{text!r} at {table.place(where)} {why}"


def _too_long(table: Table, name: str) -> str:
    large = np.abs(np.asarray(table.column(name), np.float64)) >= 2**53
    return f"{np.asarray(table.column(name))[large][0]} has more digits than a float64 holds"


def _numbers(table: Table, name: str) -> Kind:
    """Return the kind of a column of numbers, which may be those of the rows."""
    values = table.numbers(name)
    count = len(values)
    if count < 2 or not _each_its_own(values):
        return Kind("numbers")
    steps = values.max() - values.min() == count - 1
    first = values.min() in (0, 1)
    in_order = steps and first and bool((np.diff(values) == 1).all())
    if names.of_rows(name) or (names.is_usual_for_none(name) and in_order):
        return Kind("rows", note=f"left out, it numbers the rows: {name}")
    if count < FEW:
        return Kind("numbers")
    return Kind(
        "numbers",
        note=f"warning: {name} is a whole number of its own in every row; if it is a number or a "
        "name of the row, leave it out of the file",
    )


def _each_its_own(values: NDArray[np.float64]) -> bool:
    """Return whether all are whole numbers, and no two of them equal."""
    for some in (values[:_SOME], values):
        if np.isnan(some).any() or (some != np.floor(some)).any():
            return False
        if np.abs(some).max(initial=0) > _COUNTED:
            return False
        if len(np.unique(some)) < len(some):
            return False
    return True
