"""What training has recorded: one dictionary of numbers an epoch, as columns, CSV or a picture."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import numbers
import os
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpubp import files
from gpubp.errors import InputError, unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = dict[str, float | int]

# What a record holds beside losses and metrics: not drawn.
CLERICAL = ("epoch", "step", "lr", "seconds", "samples_per_second")
_TRAIN, _VALIDATION = "#0072b2", "#d55e00"  # blue and vermilion of Okabe & Ito's safe palette
_DECADES = 2  # a range that is wider than this gets a logarithmic axis


class _Column:
    """A number of every epoch: whole ones, or floats as soon as one is; with gaps."""

    def __init__(self, gaps: int = 0) -> None:
        self.values: array[Any] = array("q", bytes(8 * gaps))
        self.there = bytearray(gaps)

    @classmethod
    def of(cls, values: NDArray[Any], there: NDArray[np.bool_] | None) -> _Column:
        """Return the column of values, all there if ``there`` is None."""
        column = cls()
        column.values = array("q" if values.dtype == np.int64 else "d", values.tobytes())
        column.there = bytearray(b"\1" * len(values) if there is None else there.tobytes())
        return column

    def append(self, value: float | int | None) -> None:
        """Add the number of one more epoch; None is a gap."""
        if isinstance(value, float) and self.values.typecode == "q":
            self.values = array("d", self.values)
        self.values.append(0 if value is None else value)
        self.there.append(value is not None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Column) or self.there != other.there:
            return False
        return np.array_equal(self.copy(), other.copy(), equal_nan=True)

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __getitem__(self, index: int) -> float | int | None:
        return self.values[index] if self.there[index] else None

    def copy(self) -> NDArray[Any]:
        """Return a copy of the values, 0 in gaps."""
        return np.array(self.values)

    def mask(self) -> NDArray[np.bool_]:
        """Return where there are values."""
        return np.frombuffer(bytes(self.there), np.bool_)


def _plain(name: object, value: object) -> float | int:
    """Return a number of a record as one of Python's.

    Raises:
        InputError: the name is no string, or the value no number, or a whole one beyond int64.
    """
    if type(value) is float and type(name) is str:  # as nearly all are: to ask for more takes long
        return value
    if not isinstance(name, str) or not isinstance(value, numbers.Real):
        raise InputError(f"a record holds numbers by name, got {name!r}: {value!r}")
    if not isinstance(value, numbers.Integral):
        return float(value)
    whole = int(value)
    if not -(2**63) <= whole < 2**63:
        raise InputError(f"a record holds whole numbers of int64, got {name!r}: {value!r}")
    return whole


class History:
    """The records of a training run, in the order of its epochs, kept by columns.

    A column holds whole numbers, or floats if any of its numbers is one.
    """

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self._count = 0

    @classmethod
    def from_records(cls, records: Iterable[Mapping[str, float]]) -> History:
        """Return the history of these records; the inverse of :attr:`records`."""
        history = cls()
        for record in records:
            history.append(record)
        return history

    @classmethod
    def from_columns(
        cls, count: int, columns: Mapping[str, tuple[NDArray[Any], NDArray[np.bool_] | None]]
    ) -> History:
        """Return the history of columns, int64 or float64 each; the inverse of :meth:`columns`."""
        history = cls()
        history._count = count
        history._columns = {name: _Column.of(*column) for name, column in columns.items()}
        return history

    def columns(self) -> dict[str, tuple[NDArray[Any], NDArray[np.bool_] | None]]:
        """Return of each column its values, and where there are any; None for everywhere."""
        return {
            name: (column.copy(), column.mask() if 0 in column.there else None)
            for name, column in self._columns.items()
        }

    def append(self, record: Mapping[str, float]) -> None:
        """Add the record of one more epoch; NumPy scalars become plain numbers.

        Raises:
            InputError: a name is not a string, a value not a number, or a whole one beyond int64.
        """
        plain = {name: _plain(name, value) for name, value in record.items()}
        for name in plain:
            if name not in self._columns:
                self._columns[name] = _Column(gaps=self._count)
        for name, column in self._columns.items():
            column.append(plain.get(name))
        self._count += 1

    @property
    def records(self) -> list[Record]:
        """The records as new dictionaries: JSON values."""
        records: list[Record] = [{} for _ in range(self._count)]
        for name, column in self._columns.items():
            for record, value, there in zip(records, column.values, column.there, strict=True):
                if there:
                    record[name] = value
        return records

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __getitem__(self, index: int) -> Record:
        """Return the record at an index, such as -1 for the last epoch."""
        index = range(self._count)[index]
        found = ((name, column[index]) for name, column in self._columns.items())
        return {name: value for name, value in found if value is not None}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History) or len(self) != len(other):
            return False
        mine, its = self._columns, other._columns
        return mine.keys() == its.keys() and all(column == its[n] for n, column in mine.items())

    __hash__ = None  # type: ignore[assignment]  # its records change

    def __repr__(self) -> str:
        return f"<History of {len(self)} epochs: {', '.join(self.names)}>"

    @property
    def names(self) -> list[str]:
        """The names of the columns, in the order of their first appearance."""
        return list(self._columns)

    def column(self, name: str) -> NDArray[np.float64]:
        """Return one number of every epoch, NaN where there is none.

        Raises:
            InputError: no record has that name.
        """
        if name not in self._columns:
            raise unknown_name("column of the history", name, self.names)
        column = self._columns[name]
        return np.where(column.mask(), column.copy().astype(np.float64), math.nan)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a header and a line an epoch, every digit kept; missing numbers stay empty.

        Raises:
            SaveError: the file could not be written; what was there before is still there.
        """
        files.write(path, csv_lines(self.names, self, header=True))

    def plot(self, path: str | os.PathLike[str], *, kept: int | None = None) -> None:
        """Draw the loss and every metric over the epochs, as a PNG picture.

        Args:
            path: the file.
            kept: the epoch whose weights were kept, such as ``EarlyStopping.best_epoch``: it is
                marked on every validation curve. None marks the best of each.

        Raises:
            InputError: there is no epoch to draw.
            SaveError: the file could not be written; what was there before is still there.
        """
        panels = _panels(self.names)
        if not panels:
            raise InputError("there is nothing to draw: the history has no epoch; call fit first")
        # Figure, not pyplot: no window, no global state, no figure that is never closed.
        figure = _matplotlib().figure.Figure(
            figsize=(6.0 * len(panels), 4.2), dpi=120, layout="constrained"
        )
        epochs = self._epochs()
        for axes, (title, curves) in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
        ):
            _draw(axes, title, epochs, {name: self.column(name) for name in curves}, kept)
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
        files.write(path, picture.getvalue())

    def _epochs(self) -> NDArray[np.float64]:
        return self.column("epoch") if "epoch" in self.names else np.arange(1.0, len(self) + 1)


def csv_lines(names: Sequence[str], records: Iterable[Record], *, header: bool = False) -> bytes:
    """Return a CSV file's lines of records, by the names of its columns; missing numbers: empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode()


def _matplotlib() -> Any:
    """Import Matplotlib, whatever MPLBACKEND says: a picture needs none, and a wrong one raises."""
    asked = os.environ.pop("MPLBACKEND", None) if "matplotlib" not in sys.modules else None
    try:
        import matplotlib.figure  # noqa: PLC0415
    finally:
        if asked is not None:
            os.environ["MPLBACKEND"] = asked
    if asked is not None:  # for who plots otherwise in this process
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = asked
    return matplotlib


def larger_is_better(name: str) -> bool:
    """Return whether a metric is one to be maximised, judging by its name."""
    return name.removeprefix("val_") in ("accuracy", "r2")


def _panels(names: list[str]) -> dict[str, list[str]]:
    """Return the curves of each panel: ``loss`` with ``val_loss``, and so on, the loss first."""
    panels: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: name.removeprefix("val_") != "loss"):
        if name not in CLERICAL:
            panels.setdefault(name.removeprefix("val_"), []).append(name)
    return panels


def _draw(
    axes: Axes,
    title: str,
    epochs: NDArray[np.float64],
    curves: dict[str, NDArray[np.float64]],
    kept: int | None,
) -> None:
    """Draw one panel: training and validation curve, and on the latter the epoch that counts."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    marker = "." if len(epochs) <= 30 else ""
    for name, values in curves.items():
        validation = name.startswith("val_")
        axes.plot(
            epochs, values, marker=marker, linewidth=1.8,
            color=_VALIDATION if validation else _TRAIN,
            linestyle="--" if validation else "-",
            label="validation" if validation else "training",
        )  # fmt: skip
        if validation and np.isfinite(values).any():
            _mark(axes, epochs, values, kept, larger_is_better(name))
    if _wide(np.concatenate(list(curves.values()))):
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axes.set(xlabel="epoch", ylabel=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend()


def _mark(
    axes: Axes,
    epochs: NDArray[np.float64],
    values: NDArray[np.float64],
    kept: int | None,
    larger: bool,
) -> None:
    """Ring the epoch that was kept; the best, if none is said to be."""
    finite = np.where(np.isfinite(values), values, math.nan)
    if kept is None:
        index = int(np.nanargmax(finite) if larger else np.nanargmin(finite))
    else:
        found = np.flatnonzero(epochs == kept)
        if not len(found) or math.isnan(finite[found[0]]):
            return
        index = int(found[0])
    word = "best" if kept is None else "kept"
    axes.plot(
        epochs[index], values[index], marker="o", markersize=9, fillstyle="none", linestyle="none",
        color=_VALIDATION, label=f"{word}: {values[index]:.4g} at epoch {epochs[index]:.0f}",
    )  # fmt: skip


def _wide(values: NDArray[np.float64]) -> bool:
    """Return whether values are positive and span more than ``_DECADES`` decades."""
    finite: Any = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() > 10**_DECADES * finite.min())
