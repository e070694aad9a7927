"""What is predicted: which column, whether classes or values, and how they are coded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpubp.data.preprocessing import standardised
from gpubp.data.table import Table, shorten
from gpubp.errors import InputError

Task = Literal["classification", "regression"]

# Names that say what a column is, used where none is given.
_USUAL_NAMES = ("target", "label", "class", "y")

# Integers of more different values than this are taken for quantities.
_MOST_INTEGER_CLASSES = 20
# The part of a target's values that are numbers, from which on the others are mistakes.
_MOSTLY_NUMBERS = 0.9
_INFINITE = {"inf", "infinity"}


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
        if "None" in self.classes:
            table = table.with_nones(self.name)
        missing = table.missing(self.name)
        if missing.any():
            raise InputError(
                f"{table.origin}: column {self.name!r} has no value at {table.place(missing)}"
            )
        if not self.classes:
            return standardised(table.numbers(self.name), self.mean, self.scale).astype(np.float32)
        names = _names(table, self.name, self.numeric)
        ids = {name: index for index, name in enumerate(self.classes)}
        coded = np.array([ids.get(name, -1) for name in names.tolist()], np.int64)
        unknown = coded < 0
        if unknown.any():
            raise InputError(
                f"{table.origin}: column {self.name!r} has {str(names[unknown][0])!r} at "
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
        return cls(**{**document, "classes": tuple(document["classes"])})


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
    numeric = present.is_numeric(name) and present.column(name).dtype != np.bool_
    if numeric:
        distinct = np.unique(present.numbers(name))
        if len(distinct) == 1:
            raise _all_equal(table, name, present.texts(name)[0])
        whole = bool((distinct == np.floor(distinct)).all())
        few = len(distinct) <= max(2, min(_MOST_INTEGER_CLASSES, present.rows // 5))
        found: Task = "classification" if whole and few else "regression"
        why = f"{len(distinct)} different {'whole numbers' if whole else 'numbers'}"
    else:
        share, odd = present.odd(name)
        others = present.column(name)[odd].tolist()
        if others and (
            share >= _MOSTLY_NUMBERS
            or (share > 0 and {t.lower().lstrip("+-") for t in others} <= _INFINITE)
        ):
            raise InputError(
                f"{table.origin}: the target, a column of numbers, {name!r} has {others[0]!r} at "
                f"{present.place(odd)}; correct it, leave it empty, or say that it is missing"
            )
        found, why = "classification", "its values are not numbers"
    if task is not None and task != found:
        found, why = task, "as the loss asks"
    if found == "regression":
        if not numeric:
            present.numbers(name)  # names the first that is not a number
        return Target(name), why
    classes = np.unique(_names(present, name, numeric))
    if numeric:
        classes = classes[np.argsort(classes.astype(np.float64), kind="stable")]
    if len(classes) == 1:
        raise _all_equal(table, name, classes[0])
    if len(classes) > max(_MOST_INTEGER_CLASSES, present.rows // 2):
        raise InputError(
            f"{table.origin}: column {name!r} has {len(classes)} different values in "
            f"{present.rows} rows, too many for classes; choose another with --target"
        )
    return Target(name, tuple(classes.tolist()), numeric), why


def _all_equal(table: Table, name: str, value: object) -> InputError:
    return InputError(
        f"{table.origin}: the target, column {name!r}, is {value} in every row, so that there is "
        "nothing to learn; a classifier needs two classes at least"
    )


def _names(table: Table, name: str, numeric: bool) -> NDArray[Any]:
    """Return the names of the classes in a column."""
    if not numeric:
        return table.texts(name)
    return replace(table, columns={name: table.numbers(name)}, parsed=None).texts(name)
