"""Losses and softmax over more rows than one block, and rows around the lengths where ways part."""

import numpy as np
import pytest
from runners import ROUNDING, close, evaluate, run_numba, run_reference

from gpubp.kernels.numba import losses, rows
from gpubp.kernels.spec import KERNELS

COLUMNS = (1, 2, rows.FEW, rows.FEW + 1, rows.LANES, rows.LANES + 1, 2 * rows.LANES + 3)
COUNTS = (1, rows.LANES + 1, rows.ROWS - 1, rows.ROWS, rows.ROWS + 1, 2 * rows.ROWS + 3)
LOSSES = [kernel.name for kernel in KERNELS.values() if kernel.family == "loss"]
SOFTMAX = [name for name in LOSSES if name.startswith("softmax")]

both_dtypes = pytest.mark.parametrize("dtype", ROUNDING)


def operands(name, count, columns, dtype, weighted, masked):
    """Return operands of a loss; what the mask leaves out is no number, and no class."""
    rng = np.random.default_rng(count + 100 * columns)
    z = (3 * rng.standard_normal((count, columns))).astype(dtype)
    target = KERNELS[name].operands[1].name
    t = rng.integers(columns, size=count) if target == "labels" else rng.random(z.shape)
    values = {"z": z, target: t if target == "labels" else t.astype(dtype), "scale": 0.3}
    if weighted:
        values["weights"] = rng.uniform(0.5, 2, count).astype(dtype)
    if masked:
        values["mask"] = rng.random(z.shape if name not in SOFTMAX else count) < 0.7
        z[~values["mask"]] = np.nan
        if target == "labels":
            t[~values["mask"]] = -(2**40)
    return values


def compare(name, values, dtype):
    found = evaluate(run_numba, name, **values)
    if "labels" in values and "mask" in values:  # the reference looks at every label
        values = values | {"labels": np.where(values["mask"], values["labels"], 0)}
    wide = {
        key: value.astype("float64") if getattr(value, "dtype", None) == dtype else value
        for key, value in values.items()
    }
    for key, expected in evaluate(run_reference, name, **wide).items():
        close(found[key], expected, dtype, key)


@both_dtypes
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", SOFTMAX)
def test_softmax_losses_of_any_number_of_rows_and_classes(name, masked, weighted, dtype):
    for columns in COLUMNS:
        for count in COUNTS:
            values = operands(name, count, columns, dtype, weighted, masked)
            for smoothing in (0.0, 0.2):
                compare(name, values | {"smoothing": smoothing}, dtype)


@both_dtypes
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", [name for name in LOSSES if name not in SOFTMAX])
def test_elementwise_losses_beyond_a_stretch(name, masked, weighted, dtype):
    """Rows of three lie across the end of a stretch."""
    for columns in (1, 3, 7):
        count = losses._STRETCH * 2 // columns + 5
        compare(name, operands(name, count, columns, dtype, weighted, masked), dtype)


@both_dtypes
def test_softmax_of_any_number_of_rows_and_classes(dtype):
    for columns in COLUMNS:
        for count in COUNTS:
            z = np.random.default_rng(columns).standard_normal((count, columns)).astype(dtype)
            a = evaluate(run_numba, "softmax", z=z)["a"]
            wide = evaluate(run_reference, "softmax", z=z.astype("float64"))["a"]
            close(a, wide, dtype, f"{count} by {columns}")


@both_dtypes
@pytest.mark.parametrize("columns", [1, rows.FEW, rows.FEW + 1, rows.LANES + 1])
def test_not_a_number_spoils_its_row_wherever_it_stands(columns, dtype):
    for place in range(columns):
        z = np.zeros((rows.ROWS + 2, columns), dtype)
        z[rows.ROWS, place] = np.nan
        found = evaluate(run_numba, "softmax_cross_entropy", z=z, labels=np.zeros(len(z), np.int64))
        assert np.isnan(found["loss"])
        assert np.isnan(found["dz"][rows.ROWS]).all()
        assert np.isfinite(np.delete(found["dz"], rows.ROWS, axis=0)).all()
