"""How good a network is on a data set, in a few numbers."""

from __future__ import annotations

import math

from array_api_compat import array_namespace

from gpubp.engine import Engine
from gpubp.feed import Data

_ROUNDING = 16 * 2.0**-52  # of float64


def metrics(engine: Engine, data: Data) -> dict[str, float]:
    """Return the mean "loss", and "accuracy" of a classifier, else "rmse" and "r2".

    r2 is 1 - Σ(t - p)² / Σ(t - mean t)², NaN where the targets vary by rounding alone.
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
    noise = _ROUNDING * float(xp.max(xp.abs(y)))  # of the mean, and so of what differs from it
    varies = spread > y.shape[0] * y.shape[1] * noise**2
    found["r2"] = 1 - result.squared_errors / spread if varies else math.nan
    return found
