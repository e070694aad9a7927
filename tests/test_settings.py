"""Rules of settings: what they admit, and what they say."""

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubp.errors import InputError
from gpubp.settings import Rule, Settings, number, whole


@dataclass(frozen=True)
class Example(Settings):
    rate: float = number(0.5, above=0, below=1)
    count: int = whole(3, least=1, most=9)
    limit: float | None = number(None, above=0)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_number_is_admitted_within_its_limits_only(value):
    if 0 < value < 1:
        assert Example(rate=value).rate == value
    else:
        with pytest.raises(InputError, match="Example: rate must be a finite number above 0 and"):
            Example(rate=value)


@given(st.integers())
def test_a_whole_number_too(value):
    if 1 <= value <= 9:
        assert Example(count=value).count == value
    else:
        with pytest.raises(InputError, match=f"at least 1 and at most 9, got {value}"):
            Example(count=value)


@pytest.mark.parametrize("value", [1.0, True, "3", None, math.nan, [3]])
def test_what_is_no_whole_number(value):
    with pytest.raises(InputError, match="count must be a whole number"):
        Example(count=value)


@pytest.mark.parametrize("value", [True, "0.5", None, [0.5], 0.5 + 0j])
def test_what_is_no_number(value):
    with pytest.raises(InputError, match="rate must be a finite number"):
        Example(rate=value)


def test_none_where_it_is_the_default():
    assert Example(limit=None).limit is None
    with pytest.raises(InputError, match="above 0 or None, got 0"):
        Example(limit=0)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, np.uint8, float, int])
def test_values_become_plain_numbers(kind):
    """Whatever they came as, they are JSON."""
    example = Example(count=int(kind(3)), limit=kind(3))
    assert json.loads(json.dumps(vars(example))) == {"rate": 0.5, "count": 3, "limit": 3.0}
    assert type(example.limit) is float
    if np.issubdtype(kind, np.integer):
        assert type(Example(count=kind(3)).count) is int


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(), "a finite number"),
        (Rule(least=0), "a finite number at least 0"),
        (Rule(above=0, most=1), "a finite number above 0 and at most 1"),
        (Rule(whole=True, least=1), "a whole number at least 1"),
        (Rule(below=1, optional=True), "a finite number below 1 or None"),
    ],
)
def test_a_rule_in_words(rule, words):
    assert str(rule) == words


def test_a_setting_without_a_default_must_be_given():
    @dataclass(frozen=True)
    class Needy(Settings):
        size: int = whole(least=1)

    with pytest.raises(TypeError, match="size"):
        Needy()
    assert Needy(2).size == 2
