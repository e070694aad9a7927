"""Initial weights: supports, moments and shapes of distributions, orthogonality, determinism."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gpubp.errors import InputError
from gpubp.initializers import INITIALIZERS, for_activation, normal, uniform
from gpubp.kernels.spec import ACTIVATIONS

SHAPE = (300, 200)
VARIANCE = {
    "glorot": 2 / (SHAPE[0] + SHAPE[1]),
    "he": 2 / SHAPE[0],
    "lecun": 1 / SHAPE[0],
}
FANNED = [f"{family}_{kind}" for family in VARIANCE for kind in ("uniform", "normal")]

shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
seeds = st.integers(0, 2**63 - 1)
streams = st.integers(0, 2**31 - 1)


def draw(name: str, shape: tuple[int, ...] = SHAPE, seed: int = 7, stream: int = 3) -> np.ndarray:
    return INITIALIZERS.get(name).draw(shape, seed, stream)


@pytest.mark.parametrize("name", FANNED)
def test_variance_and_distribution_are_the_published_ones(name: str) -> None:
    family, kind = name.split("_")
    std = math.sqrt(VARIANCE[family])
    cdf = (
        stats.norm(0, std).cdf
        if kind == "normal"
        else stats.uniform(-std * math.sqrt(3), 2 * std * math.sqrt(3)).cdf
    )
    values = draw(name).ravel()
    assert stats.kstest(values, cdf).pvalue > 1e-3
    assert values.var() == pytest.approx(std**2, rel=0.03)
    assert abs(values.mean()) < 4 * std / math.sqrt(values.size)
    if kind == "uniform":
        assert np.abs(values).max() < std * math.sqrt(3)


def test_fan_in_is_the_first_axis() -> None:
    wide, tall = draw("he_uniform", (2, 5000)), draw("he_uniform", (5000, 2))
    assert np.abs(wide).max() == pytest.approx(math.sqrt(3), rel=1e-3)
    assert np.abs(tall).max() == pytest.approx(math.sqrt(6 / 5000), rel=1e-3)


@pytest.mark.parametrize("name", list(INITIALIZERS))
@given(shape=shapes, seed=seeds, stream=streams)
def test_shape_dtype_layout_and_determinism(
    name: str, shape: tuple[int, int], seed: int, stream: int
) -> None:
    values = draw(name, shape, seed, stream)
    assert values.shape == shape
    assert values.dtype == np.float64
    assert values.flags.c_contiguous
    assert np.isfinite(values).all()
    assert draw(name, shape, seed, stream).tobytes() == values.tobytes()


@pytest.mark.parametrize("name", [*FANNED, "orthogonal", "normal", "uniform"])
def test_seed_and_stream_each_give_other_numbers(name: str) -> None:
    first = draw(name, (8, 8), seed=1, stream=1)
    for other in (draw(name, (8, 8), seed=2, stream=1), draw(name, (8, 8), seed=1, stream=2)):
        assert not np.any(first == other)


def test_uniform_numbers_are_made_of_the_published_words() -> None:
    # Random123's known answer of philox4x32-10 at counter 0 and key 0: four words, two numbers.
    words = 0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8
    high, low = (words[0] << 20) | (words[1] >> 12), (words[2] << 20) | (words[3] >> 12)
    expected = [(2 * high + 1) / 2**53, (2 * low + 1) / 2**53]
    np.testing.assert_array_equal(uniform((2,), 0, 0), expected)


@pytest.mark.parametrize(("word", "value"), [(0, 2.0**-53), (2**32 - 1, 1 - 2.0**-53)])
def test_no_word_leads_to_0_or_1(word: int, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def bits(seed: object, step: object, out: np.ndarray, *, stream: int) -> None:
        out[...] = word

    monkeypatch.setattr("gpubp.initializers.random_bits", bits)
    np.testing.assert_array_equal(uniform((3,), 0, 0), value)
    assert np.isfinite(normal((3,), 0, 0)).all()


@given(shape=st.tuples(st.integers(1, 9)) | shapes, seed=seeds)
def test_normal_numbers_of_odd_and_even_count(shape: tuple[int, ...], seed: int) -> None:
    values = normal(shape, seed, 0)
    assert values.shape == shape
    assert np.unique(values).size == values.size


@given(shape=shapes, gain=st.floats(0.1, 10), seed=seeds)
def test_orthogonal(shape: tuple[int, int], gain: float, seed: int) -> None:
    w = INITIALIZERS.get("orthogonal", gain=gain).draw(shape, seed, 0)
    gram = w.T @ w if shape[0] >= shape[1] else w @ w.T
    np.testing.assert_allclose(gram, gain**2 * np.eye(min(shape)), atol=1e-12 * gain**2)


def test_orthogonal_has_no_preferred_sign() -> None:
    # LAPACK's Householder reflections alone would make the first entry negative every time.
    corners = np.array([draw("orthogonal", (2, 2), seed) for seed in range(400)])
    negative = (corners < 0).sum(axis=0)
    assert np.all((negative > 140) & (negative < 260)), negative


def test_plain_initializers() -> None:
    assert not draw("zeros", (5,)).any()
    assert np.all(INITIALIZERS.get("constant", value=0.3).draw((5,), 0, 0) == 0.3)
    low = INITIALIZERS.get("uniform", low=2, high=3).draw((1000,), 0, 0)
    assert 2 < low.min() < 2.01
    assert 2.99 < low.max() < 3
    assert INITIALIZERS.get("normal", std=5).draw(SHAPE, 0, 0).std() == pytest.approx(5, rel=0.02)


@pytest.mark.parametrize("name", [*FANNED, "orthogonal"])
@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 3, 4), ()])
def test_fans_need_a_matrix(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="matrix of shape"):
        draw(name, shape)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("orthogonal", {"gain": 0}, "gain must be .* above 0"),
        ("normal", {"std": -1}, "std must be .* at least 0"),
        ("uniform", {"low": 1, "high": 0}, r"low \(1\) must not exceed high \(0\)"),
        ("constant", {"value": "1"}, "value must be a finite number, got '1'"),
        ("glorot", {}, "unknown initializer 'glorot'; did you mean 'glorot_"),
    ],
)
def test_bad_settings_are_refused(name: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        INITIALIZERS.get(name, **fields)


def test_configuration_round_trip() -> None:
    for name in INITIALIZERS:
        made = INITIALIZERS.get(name)
        assert INITIALIZERS.from_config(INITIALIZERS.config(made)) == made


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_has_an_initializer(name: str) -> None:
    assert for_activation(name) in INITIALIZERS


def test_rectifiers_get_he_and_sigmoids_glorot() -> None:
    assert for_activation("relu") == "he_uniform"
    assert for_activation("tanh") == "glorot_uniform"
    with pytest.raises(InputError, match="did you mean 'relu'"):
        for_activation("rely")


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "gelu", "silu"])
def test_a_signal_survives_ten_layers(name: str) -> None:
    functions = {
        "relu": lambda z: np.maximum(z, 0),
        "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
        "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        "gelu": lambda z: z * stats.norm.cdf(z),
        "silu": lambda z: z / (1 + np.exp(-z)),
    }
    a = normal((64, 128), 0, 99)
    for layer in range(10):
        a = functions[name](a @ draw(for_activation(name), (128, 128), 0, layer))
    assert 0.02 < a.std() < 50
