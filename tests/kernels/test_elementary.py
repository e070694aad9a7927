"""The functions that activations and losses are made of, against numbers of 40 digits."""

import mpmath
import numpy as np
import pytest
from numba import njit

from gpubp.kernels.numba import elementary

mpmath.mp.dps = 60  # of the process: tests/edges.py has as many


@njit
def _cdf(z):
    return elementary.normal(z)[0]


@njit
def _bell(z):
    return elementary.normal(z)[1]


def _softplus_exact(z):
    return mpmath.log1p(mpmath.exp(z))


@njit
def _log(x):
    return elementary.log_of_sum(x, x - elementary.like(1.0, x))


def _sigmoid_exact(z):
    return 1 / (1 + mpmath.exp(-z))


def _bell_exact(z):
    return mpmath.exp(-z * z / 2)


# From where to where in float32 and float64, and the largest error in units of the last place.
CASES = {
    "exp": (elementary.exp, mpmath.exp, (-110, 88.72283), (-750, 709.7827), 1),
    "exp_negative": (elementary.exp_negative, mpmath.exp, (-110, 0), (-750, 0), 1),
    "expm1_negative": (elementary.expm1_negative, mpmath.expm1, (-99, 0), (-99, 0), 1),
    "log1p_fraction": (elementary.log1p_fraction, mpmath.log1p, (0, 1), (0, 1), 2),
    "log_of_sum": (_log, mpmath.log, (1, 1000), (1, 1000), 2),
    "tanh": (elementary.tanh, mpmath.tanh, (-20, 20), (-30, 30), 3),
    "cdf": (_cdf, mpmath.ncdf, (-15, 0), (-40, 0), 8),
    "cdf_above_0": (_cdf, mpmath.ncdf, (0, 20), (0, 40), 2),
    "bell": (_bell, _bell_exact, (-15, 15), (-40, 40), 2),
    "sigmoid": (elementary.sigmoid, _sigmoid_exact, (-110, 99), (-750, 99), 3),
    "softplus": (elementary.softplus, _softplus_exact, (-110, 99), (-750, 99), 3),
}
DTYPES = ("float32", "float64")


def vectorised(function):
    """Return the function on arrays, in a loop that the compiler may make vectors of."""

    @njit(fastmath={"contract", "nsz", "reassoc"}, error_model="numpy")
    def loop(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    return loop


def points(low, high, dtype, count=1000):
    """Return arguments from low to high, even and random ones, and ever smaller ones near 0."""
    small = np.geomspace(1e-30, 1, count)
    even, anywhere = (
        np.linspace(low, high, count),
        np.random.default_rng(0).uniform(low, high, count),
    )
    x = np.concatenate([even, anywhere, small, -small, 1 + small]).astype(dtype)
    return x[(low <= x) & (x <= high)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_errors_in_units_of_the_last_place(name, dtype):
    function, exact, *ranges, bound = CASES[name]
    x = points(*ranges[DTYPES.index(dtype)], dtype)
    y = np.full_like(x, np.nan)
    vectorised(function)(x, y)
    for argument, value in zip(x, y, strict=True):
        truth = exact(mpmath.mpf(float(argument)))
        unit = mpmath.mpf(float(np.spacing(abs(np.array(float(truth), dtype)))))
        assert abs(mpmath.mpf(float(value)) - truth) <= bound * unit, (argument, value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("function", "low", "high"),
    [
        (elementary.exp, 0, np.inf),
        (elementary.tanh, -1, 1),
        (_cdf, 0, 1),
        (_bell, 0, 0),
        (elementary.sigmoid, 0, 1),
        (elementary.softplus, 0, np.inf),
    ],
)
def test_limits_and_nan(function, low, high, dtype):
    """Limits are met exactly, from far out on, and not a number stays one whatever its bits."""
    bits = {"float32": np.uint32, "float64": np.uint64}[dtype]
    quiet = np.array(np.nan, dtype).view(bits)
    payload = (quiet + np.arange(1, 40, dtype=bits)).view(dtype)
    largest = np.finfo(dtype).max
    x = np.concatenate([np.array([-np.inf, -largest, np.inf, largest, np.nan], dtype), payload])
    y = np.empty_like(x)
    vectorised(function)(x, y)
    np.testing.assert_array_equal(y[:2], low)
    np.testing.assert_array_equal(y[2], high)
    assert y[3] == (largest if function is elementary.softplus else high)
    assert np.isnan(y[4:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["exp", "tanh", "cdf", "sigmoid", "softplus"])
def test_they_do_not_fall(name, dtype):
    """Where two pieces meet, or a result leaves the normal numbers, no step down is large."""
    function, _, *ranges, _ = CASES[name]
    low, high = ranges[DTYPES.index(dtype)]
    x = np.linspace(low - 3, high, 20001).astype(dtype)
    y = np.empty_like(x)
    vectorised(function)(x, y)
    assert (np.diff(y) >= -8 * np.spacing(np.abs(y[1:]))).all()
