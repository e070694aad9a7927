"""How good a network is on a data set, in a few numbers."""

from __future__ import annotations

import math

from array_api_compat import array_namespace

from gpubp.engine import Engine
from gpubp.feed import Data


def metrics(engine: Engine, data: Data) -> dict[str, float]:
    """Return the mean "loss", and "accuracy" of a classifier, else "rmse" and "r2".

    r2 is 1 - Σ(t - p)² / Σ(t - mean t)², NaN where the targets do not vary.
    """
    result = engine.evaluate(data)
    found = {"loss": result.loss / result.rows}
    if engine.loss.classifies:
        told = not math.isnan(found["loss"])  # no class can be told from outputs that are NaN
        return {**found, "accuracy": result.correct / result.rows if told else math.nan}
    source = data.source or data  # a window has only a part of the targets
    y, rows = source.y, source.rows
    if rows is not None:
        rows = rows if data.source is None else engine.backend.to_host(rows)
        y = array_namespace(y).take(y, rows, axis=0)
    xp = array_namespace(y)
    y = xp.astype(y, xp.float64)
    spread = float(xp.sum((y - xp.mean(y, axis=0)) ** 2))
    found["rmse"] = math.sqrt(result.squared_errors / (result.rows * y.shape[1]))
    found["r2"] = 1 - result.squared_errors / spread if spread else math.nan
    return found
