"""What is predicted: which column, whether classes or values, and how they are coded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpubp.data import kinds, numerals, saved
from gpubp.data.cells import Cells
from gpubp.data.names import shorten
from gpubp.data.scaling import standardised
from gpubp.data.table import Table, number_text
from gpubp.errors import InputError

Task = Literal["classification", "regression"]

# Names that say what a column is, used where none is given.
_USUAL_NAMES = ("target", "label", "class", "y")

# Integers of more different values than this are taken for quantities.
_MOST_INTEGER_CLASSES = 20


@dataclass(frozen=True, slots=True)
class Target:
    """How the target column is coded.

    Attributes:
        name: the column.
        classes: the names of the classes, in the order of their ids; none for regression.
        numeric: whether the names of the classes are numbers, so that 1.0 and 1 are the same.
        mean, scale: for regression, a value v is coded as (v - mean) / scale.
    """

    name: str
    classes: tuple[str, ...] = ()
    numeric: bool = True
    mean: float = 0.0
    scale: float = 1.0

    @property
    def task(self) -> Task:
        """Whether classes or values are predicted."""
        return "classification" if self.classes else "regression"

    def encode(self, table: Table) -> NDArray[Any]:
        """Return the column as class ids, (N,) int64, or coded values, (N,) float32.

        Raises:
            InputError: the column is not there, a value is missing, or it is no number or a class
                that the training data did not have (the first is named).
        """
        missing = table.missing(self.name)
        if missing.any():
            raise InputError(
                f"{table.origin}: column {self.name!r} has no value at {table.place(missing)}"
            )
        if not self.classes:
            values = standardised(table.numbers(self.name), self.mean, self.scale)
            far = np.abs(values) > np.finfo(np.float32).max
            if far.any():
                first = table.numbers(self.name)[far][0]
                raise InputError(
                    f"{table.origin}: column {self.name!r} has {first:g} at {table.place(far)}, "
                    "beyond what the network computes with; scale it first"
                )
            return values.astype(np.float32)
        names = table.levels(self.name)
        if self.numeric:
            values = table.numbers(self.name)
            ids: dict[Any, int] = {float(name): index for index, name in enumerate(self.classes)}
            different, codes = np.unique(values, return_inverse=True)
            coded = np.array([ids.get(value, -1) for value in different.tolist()], np.int64)[codes]
        else:
            ids = {name: index for index, name in enumerate(self.classes)}
            known = [ids.get(level, -1) for level in names.levels]
            coded = np.array(known, np.int64)[names.codes]
        unknown = coded < 0
        if unknown.any():
            first = names.levels[names.codes[int(unknown.argmax())]]
            raise InputError(
                f"{table.origin}: column {self.name!r} has {first!r} at "
                f"{table.place(unknown)}, a class that the training data did not have; it had: "
                f"{shorten(self.classes)}"
            )
        return coded

    def decode(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return coded values in the target's own unit."""
        return np.asarray(values, np.float64) * self.scale + self.mean

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "classes": list(self.classes)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Target:
        """Return the target that :meth:`to_json` described."""
        name, classes = saved.text(document["name"]), saved.texts(document["classes"])
        numeric = saved.flag(document["numeric"])
        if numeric and len({float(each) for each in classes}) < len(classes):
            raise ValueError("two classes are the same number")
        mean, scale = saved.number(document["mean"]), saved.scale(document["scale"])
        return cls(name, classes, numeric, mean, scale)


def choose(table: Table, name: str | None) -> tuple[str, str]:
    """Return the name of the target column, and why it is that one.

    Raises:
        InputError: there is no column of that name, or no other column to predict it from.
    """
    if name is not None:
        table.column(name)
        name = table.named(name)
        why = "as asked"
    else:
        usual = [column for column in table.columns if column.casefold() in _USUAL_NAMES]
        name = usual[0] if usual else list(table.columns)[-1]
        why = "by its name" if usual else "the last column"
    if len(table.columns) < 2:
        raise InputError(
            f"{table.origin} has the single column {name!r}, so that there is nothing to predict "
            "from; are its fields separated by commas, semicolons, tabs or |?"
        )
    return name, why


def infer(table: Table, name: str, task: Task | None = None) -> tuple[Target, str]:
    """Return the target with its classes, if it has any, and why it has or has none.

    Texts and bools are classes; so are integers if they are few: two, or at most twenty with five
    rows each on average. ``task`` overrules that.

    Raises:
        InputError: a value is missing everywhere, all are equal, texts are asked to be numbers, or
            nearly every row has a text of its own.
    """
    present = table.take(np.flatnonzero(~table.missing(name)))
    if not present.rows:
        raise InputError(f"{table.origin}: the target, column {name!r}, has no value in any row")
    column = present.column(name)
    numeric = present.is_numeric(name) and (isinstance(column, Cells) or column.dtype != np.bool_)
    if numeric:
        distinct = np.unique(present.numbers(name))
        if len(distinct) == 1:
            raise _all_equal(table, name, present.texts(name)[0])
        whole = bool((distinct == np.floor(distinct)).all())
        few = len(distinct) <= max(2, min(_MOST_INTEGER_CLASSES, present.rows // 5))
        found: Task = "classification" if whole and few else "regression"
        why = f"{len(distinct)} different {'whole numbers' if whole else 'numbers'}"
    else:
        wrong = kinds.wrong_in_target(present, name)
        if wrong:
            raise InputError(
                f"{table.origin}: the target is of numbers, but column {name!r} has {wrong}; "
                "correct it, leave it empty, or say that it is missing with --missing"
            )
        named = isinstance(column, Cells) and column.is_named
        found = "classification"
        why = f"its values are {'names made of digits' if named else 'not numbers'}"
    if task is not None and task != found:
        found, why = task, "as the loss asks"
    if found == "regression":
        if not numeric:
            present.numbers(name)  # names the first that is not a number
        return Target(name), why
    texts = present.levels(name)
    classes = _of_numbers(present, name) if numeric else None
    if classes is None:
        classes, numeric = texts.present(), False
    if len(classes) == 1:
        raise _all_equal(table, name, classes[0])
    if len(classes) > max(_MOST_INTEGER_CLASSES, present.rows // 2):
        raise InputError(
            f"{table.origin}: column {name!r} has {len(classes)} different values in "
            f"{present.rows} rows, too many for classes; choose another with --target"
        )
    return Target(name, tuple(classes), numeric), why


def _all_equal(table: Table, name: str, value: object) -> InputError:
    return InputError(
        f"{table.origin}: the target, column {name!r}, is {value} in every row, so that there is "
        "nothing to learn; a classifier needs two classes at least"
    )


def _of_numbers(table: Table, name: str) -> list[str] | None:
    """Return the names of classes that are numbers, in their order; None if some would be lost.

    A number is named as it is written, if that is the grammar's way and in the file the only one;
    else as people do: 3, not 3.0.
    """
    values, texts = table.numbers(name), table.levels(name)
    written: dict[float, list[str]] = {}
    for row in np.unique(texts.codes, return_index=True)[1].tolist():
        text = texts.levels[texts.codes[row]]
        written.setdefault(float(values[row]), []).append(text)
    for value, each in written.items():
        plain = [text for text in each if numerals.number(text) == value]
        if len(set(map(Decimal, plain))) > 1:
            return None  # numbers that are one as a float64
        if len(plain) < len(each) or len(each) > 1:
            each[:] = [number_text(value)]
    return [written[value][0] for value in sorted(written)]
