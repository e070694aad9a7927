"""The grammar of numbers, against decimal.Decimal, and names that are made of digits."""

from decimal import Decimal, InvalidOperation

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpubp.data import numerals
from gpubp.data.cells import Cells

ODD = [
    "100_1", "１２", "٣", "inf", "-Infinity", "NAN", "0x10", "1e999", "-1e999", "1,5", "+", ".",
    "-.", "1e", "1e+", "e5", "1 2", "--1", "1-", "1.2.3", "1e5e5", "1e5.", "5-3", "½", "1d5",
    "0047583311587E590003",
]  # fmt: skip


def parsed(texts):
    return Cells.of(texts).numbers


@given(st.lists(st.from_regex(r"[-+.0-9eE_,x ]{0,26}", fullmatch=True), min_size=1, max_size=8))
@example(["1", "-2.5", ".5", "5.", "1e-5", "+7E+2", "123456789012345678901234", "9" * 400])
@example(["0.1", "0.3", "14.62", "123456.789012345", "9007199254740993", "2.2250738585072014e-308"])
def test_a_number_is_what_decimal_takes_without_its_words(texts):
    values = parsed(texts).values
    for text, value in zip(texts, values.tolist(), strict=True):
        try:
            right = float(Decimal(text)) if "_" not in text else np.nan
        except InvalidOperation:
            right = np.nan
        right = right if np.isfinite(right) else np.nan
        np.testing.assert_array_equal(value, right)  # to the last bit
        plain = numerals.number(text.strip())
        np.testing.assert_array_equal(np.nan if plain is None else plain, right)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_what_python_writes_is_read_to_the_last_bit(values):
    np.testing.assert_array_equal(parsed([repr(value) for value in values]).values, values)


@pytest.mark.parametrize("text", ODD)
def test_what_python_or_people_take_for_a_number_and_the_grammar_does_not(text):
    assert numerals.number(text) is None
    found = parsed(["1", text, "2"])
    np.testing.assert_array_equal(found.values, [1, np.nan, 2])
    assert found.other.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("02134", True), ("00", True), ("-007", True), ("007e3", True), ("0" * 30, True),
        ("9007199254740993", True), ("1582218195625938945", True), ("-9007199254740994", True),
        ("9" * 40, True),
        ("0", False), ("-0", False), ("0.5", False), ("00.5", False), ("9007199254740992", False),
        ("9007199254740993.5", False), ("1e30", False), ("10", False), ("0e5", False),
    ],
)  # fmt: skip
def test_digits_that_a_float_would_lose_make_a_name(text, name):
    assert numerals.is_name(text) == name
    assert parsed(["1", text]).names.tolist() == [1] * name


@given(st.lists(st.from_regex(r"[0-9]{1,22}", fullmatch=True), min_size=1, max_size=20))
def test_different_whole_numbers_are_different_numbers_or_names(texts):
    found = parsed(texts)
    if not len(found.names):
        assert len(np.unique(found.values)) == len(set(texts))


def test_rows_taken_keep_their_names():
    some = Cells.of(["1", "02", "x", "3", "04"]).take(np.array([4, 0, 2]))
    assert some.numbers.names.tolist() == [0]
    np.testing.assert_array_equal(some.numbers.values, [4, 1, np.nan])
    assert some.numbers.other.tolist() == [False, False, True]
    assert some.tolist() == ["04", "1", "x"]
    assert some.take(np.array([2])).first(np.array([True])) == "x"
