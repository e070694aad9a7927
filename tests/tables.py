"""Tables for tests: a CSV file's text, read; and columns of values."""

import tempfile
from pathlib import Path

import numpy as np

from gpubp.data.csvfile import Reading
from gpubp.data.table import Table, load


def read(content, **how):
    """Return the table of a CSV file that has some text or bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "d.csv")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load(path, Reading(**how))


def column(name, cells, others="y", values="01"):
    """Return a CSV text of a column and another one, whose values alternate."""
    rows = "".join(f'"{cell}",{values[index % len(values)]}\n' for index, cell in enumerate(cells))
    return f"{name},{others}\n{rows}"


def make(**columns):
    """Return a table of some columns; those of strings alone are texts."""

    def made(values):
        if all(isinstance(value, str) for value in values):
            return np.array(values, np.dtypes.StringDType())
        return np.asarray(values)

    each = {name: made(values) for name, values in columns.items()}
    return Table("data", each, np.arange(len(next(iter(each.values())))))
