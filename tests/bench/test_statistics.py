"""Medians, intervals, ratios and the comparison of two runs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubp.bench import statistics

SAMPLES = st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=30)


@given(SAMPLES)
def test_the_interval_holds_the_median_and_lies_within_the_samples(samples):
    found = statistics.median(samples)
    assert found.value == np.median(samples)
    assert min(samples) <= found.low <= found.high <= max(samples)
    assert found.low <= found.value <= found.high


@given(SAMPLES, st.sampled_from([0.25, 0.5, 4.0]))
def test_a_ratio_of_scaled_samples_is_the_scale_with_no_doubt_about_it(samples, scale):
    found = statistics.ratio([scale * x for x in samples], samples, paired=True)
    assert (found.value, found.low, found.high) == pytest.approx((scale,) * 3, rel=1e-12)


def test_pairs_cancel_what_hits_both():
    rng = np.random.default_rng(0)
    drift = rng.uniform(1, 3, 40)  # of the machine
    a, b = 2 * drift, drift * rng.uniform(0.99, 1.01, 40)
    paired, apart = (statistics.ratio(a, b, paired=way) for way in (True, False))
    assert paired.high - paired.low < (apart.high - apart.low) / 3
    assert paired.low < 2 < paired.high


def test_different_numbers_of_rounds_can_be_compared():
    assert statistics.ratio([2.0] * 5, [1.0] * 3, paired=True).value == 2


def test_the_same_samples_do_not_differ():
    samples = np.random.default_rng(0).random(15)
    found = statistics.difference(samples, samples)
    assert found.effect == 0
    assert found.p == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("shift", "effect"), [(1.0, 1), (-1.0, -1)])
def test_samples_apart_differ_with_a_sign(shift, effect):
    samples = 2 + np.random.default_rng(0).random(15)
    found = statistics.difference(samples + shift, samples)
    assert found.effect == effect
    assert found.p < 1e-4
    assert (found.ratio.value > 1) == (shift > 0)


def test_a_phase_that_noise_hid_is_no_divisor():
    found = statistics.ratio([1e-6] * 5, [0.0] * 5, paired=True)
    assert np.isfinite([found.value, found.low, found.high]).all()
