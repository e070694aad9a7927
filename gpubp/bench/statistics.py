"""Medians, their bootstrap intervals, ratios, and whether two runs differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2000
_LEAST = 1e-12  # seconds: a phase that noise hid took 0, and is no divisor
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval of 95 %; with one sample both ends are the value."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How the samples of a new run compare with those of an old one.

    ``ratio`` is new to old, of medians. ``effect`` is Cliff's delta, from -1 to 1: how much
    likelier a new sample is above an old one than below. ``p`` is that of the two-sided
    Mann-Whitney test.
    """

    ratio: Estimate
    effect: float
    p: float


def median(samples: Sequence[float]) -> Estimate:
    """Return the median with its bootstrap interval."""
    values = np.asarray(samples, np.float64)
    return _estimate(float(np.median(values)), np.median(values[_draw(len(values))], axis=1))


def ratio(a: Sequence[float], b: Sequence[float], *, paired: bool) -> Estimate:
    """Return the ratio of medians a / b with its bootstrap interval.

    With ``paired`` samples are drawn in pairs, because what disturbs the machine disturbs
    neighbours alike: for contenders that took turns in one run. Of rounds that one alone had the
    other can say nothing, and then they are drawn apart.
    """
    paired = paired and len(a) == len(b)
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    chosen = _draw(len(first))
    others = chosen if paired else _draw(len(second), seed=1)
    value = max(np.median(first), _LEAST) / max(np.median(second), _LEAST)
    below = np.maximum(np.median(second[others], axis=1), _LEAST)
    return _estimate(float(value), np.maximum(np.median(first[chosen], axis=1), _LEAST) / below)


def difference(new: Sequence[float], old: Sequence[float]) -> Difference:
    """Compare the samples of two runs."""
    from scipy.stats import mannwhitneyu  # noqa: PLC0415 (half a second)

    test = mannwhitneyu(new, old, alternative="two-sided")
    effect = 2 * float(test.statistic) / (len(new) * len(old)) - 1
    return Difference(ratio(new, old, paired=False), effect, float(test.pvalue))


def _draw(count: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, count, (_RESAMPLES, count))


def _estimate(value: float, drawn: NDArray[np.float64]) -> Estimate:
    low, high = np.quantile(drawn, _QUANTILES)
    return Estimate(value, float(low), float(high))
