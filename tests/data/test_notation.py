"""Decimal commas, parted thousands and units: decided for the file, or refused with the line."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import column, read

from gpubp.data.cells import Cells
from gpubp.data.csvfile import Reading
from gpubp.data.prepare import Recipe, prepare
from gpubp.errors import CheckpointError, InputError

COMMAS, THOUSANDS = "decimal commas were read in", "separators of thousands were read in"
READ = {
    "semicolons": ("a;b\n1,5;x\n2,25;y\n", [1.5, 2.25], COMMAS),
    "for the file": ('b,a\n"345,5",1.234\n"12,25",2.500\n', [1234, 2500], COMMAS),
    "for the file, of one column": ('a\n"1.234"\n"345,5"\n', [1234, 345.5], COMMAS),
    "in quotes": ('a,b\n"345,5",1\n"12,25",2\n', [345.5, 12.25], COMMAS),
    "below 1": ('a,b\n"0,123",1\n"0,125",2\n', [0.123, 0.125], COMMAS),
    "exponents": ("a;b\n1,5e3;1\n-2;2\n", [1500, -2], COMMAS),
    "points and commas": ("a;b\n1.234,5;1\n12,25;2\n", [1234.5, 12.25], COMMAS),
    "tabs": ("a\tb\n1,5\t1\n2,25\t2\n", [1.5, 2.25], COMMAS),
    "bars": ("a|b\n1,5|1\n2,25|2\n", [1.5, 2.25], COMMAS),
    "semicolons alone tell": ("a;b\n1,234;1\n2,345;2\n", [1.234, 2.345], COMMAS),
    "thousands": ('a,b\n"59,417",1\n"1,059,417.5",2\n', [59417, 1059417.5], THOUSANDS),
    "thousands, nothing else": ('a,b\n"59,417",1\n12,2\n', [59417, 12], THOUSANDS),
    "thousands, semicolons": ("a;b\n1,234;1.5\n2,345;2.5\n", [1234, 2345], THOUSANDS),
    "spaces": ("a,b\n59 417,1\n1 059 417.5,2\n", [59417, 1059417.5], THOUSANDS),
    "no-break spaces": ("a,b\n59\u202f417,1\n12\u00a0000,2\n", [59417, 12000], THOUSANDS),
    "apostrophes": ("a,b\n59'417,1\n12\u2019000.5,2\n", [59417, 12000.5], THOUSANDS),
    "dollars": ("a,b\n$59.42,1\n-$3,2\n", [59.42, -3], r"a: numbers with \$"),
    "dollars, thousands": ('a,b\n"$1,200.50",1\n$3,2\n', [1200.5, 3], THOUSANDS),
    "euros behind": ("a;b\n59,42 €;1\n3 €;2\n", [59.42, 3], "a: numbers with €"),
    "codes": ("a,b\nUSD 59.42,1\nUSD -3,2\n", [59.42, -3], "a: numbers with USD"),
    "percent": ("a,b\n59.4%,1\n-3 %,2\n", [59.4, -3], "a: numbers with %"),
    "missing ones": ("a;b\n1,5;1\n;2\nNA;3\n", [1.5, np.nan, np.nan], COMMAS),
    "points alone": ("a;b\n1.234;1\n2.345;2\n", [1.234, 2.345], None),
    "plain": ("a,b\n1.5,1\n2e3,2\n", [1.5, 2000], None),
}


@pytest.mark.parametrize(("text", "values", "note"), READ.values(), ids=READ)
def test_numbers_as_files_write_them(text, values, note):
    table = read(text)
    assert table.is_numeric("a")
    np.testing.assert_array_equal(table.numbers("a"), values)
    if note is None:
        assert not [said for said in table.notes if "read in" in said or "with" in said]
    else:
        assert [said for said in table.notes if re.search(note, said)]


@given(
    values=st.lists(st.integers(-(10**9), 10**9), min_size=2, max_size=12),
    digits=st.integers(1, 4),
)
def test_german_and_american_files_are_one(values, digits):
    """The same numbers, written in both ways, with a column that tells and one that need not."""

    def lines(american, separator):
        rows = [
            f"{value / 1000:,.3f}" if american else german(f"{value / 1000:,.3f}")
            for value in values
        ]
        tells = [f"{value / 7:,.{digits + 3}f}" for value in values]
        tells = tells if american else list(map(german, tells))
        return (
            "a"
            + separator
            + "b\n"
            + "".join(
                f'"{row}"{separator}"{tell}"\n' for row, tell in zip(rows, tells, strict=True)
            )
        )

    def german(text):
        return text.translate(str.maketrans(",.", ".,"))

    one, other = read(lines(True, ",")), read(lines(False, ";"))
    np.testing.assert_array_equal(one.numbers("a"), np.array(values) / 1000)
    for name in "ab":
        np.testing.assert_array_equal(one.numbers(name), other.numbers(name))


def test_two_ways_in_one_file_are_refused_or_told():
    text = 'a,b\n1.5,"345,5"\n2.5,"12,25"\n'
    with pytest.raises(InputError, match=r"'b' has '345,5' at line 2, a decimal comma, but column 'a' has '1\.5' at line 2, a decimal point; .*--decimal"):  # fmt: skip # noqa: E501
        read(text)
    table = read(text, decimal="point")
    assert table.is_numeric("a")
    assert table.texts("b").tolist() == ["345,5", "12,25"]
    told = "warning: b is taken for texts: it has decimal commas, '345,5' at line 2"
    assert table.notes == (told,)
    table = read(text, decimal="comma")
    assert table.numbers("b").tolist() == [345.5, 12.25]
    assert not table.is_numeric("a")
    assert "warning: a is taken for texts: it has decimal points, '1.5' at line 2" in table.notes
    assert table.texts("a").tolist() == ["1.5", "2.5"]


def test_one_odd_comma_decides_nothing():
    cells = [str(index) for index in range(100)]
    cells[7] = "345,5"
    text = column("a", cells, "b", [f"{index}.5" for index in range(100)])
    table = read(text)
    assert table.numbers("b")[3] == 3.5
    column_a = table.column("a").numbers
    assert column_a.other.tolist() == [index == 7 for index in range(100)]


@pytest.mark.parametrize(
    "cells",
    [
        ["$5", "7"], ["$5", "€7"], ["5%", "7"], ["1,2,3", "4,5"], ["12.05.2024", "13.05.2024"],
        ["1,23,456", "2,345"], ["$", "$"], ["10:30", "11:00"],
    ],
)  # fmt: skip
def test_what_only_some_have_stays_texts(cells):
    table = read(column("a", cells))
    assert not table.is_numeric("a")
    assert table.texts("a").tolist() == cells


class TestNewFiles:
    """A model reads new files as its training data were read, where they do not tell."""

    def model(self, content, **how):
        prepared = prepare(read(content, **how), target="y")
        return Recipe.from_json(prepared.recipe.to_json())

    def again(self, recipe, content):
        return read(content, missing=recipe.reading.missing, usual=recipe.reading.usual)

    def test_commas(self):
        recipe = self.model("a;y\n1,5;1\n2,25;0\n3,5;1\n4,25;0\n")
        assert self.again(recipe, 'a,c\n"1,234",1\n').numbers("a").tolist() == [1.234]
        assert self.again(recipe, "a;c\n1.234;1\n").numbers("a").tolist() == [1234]
        assert self.again(recipe, "a,c\n1.5,1\n").numbers("a").tolist() == [1.5]  # it tells

    def test_points(self):
        recipe = self.model("a;y\n1.5;1\n2.25;0\n3.5;1\n4.25;0\n")
        assert self.again(recipe, "a;c\n1,234;1\n").numbers("a").tolist() == [1234]
        assert self.again(recipe, "a;c\n1,5;1\n").numbers("a").tolist() == [1.5]

    def test_what_was_said_stays(self):
        recipe = self.model('a,b,y\n1.5,"1,5",0\n2.5,"2,5",1\n3,"3,5",0\n', decimal="point")
        assert recipe.reading == Reading(decimal="point", usual="point")
        document = recipe.to_json()
        document["reading"]["decimal"] = "dot"
        with pytest.raises(CheckpointError):
            Recipe.from_json(document)

    def test_missing_values(self):
        recipe = self.model(column("a", ["1.5", "2.5", "-", "3"]), missing=("-",))
        assert np.isnan(self.again(recipe, "a\n-\n").numbers("a")[0])

    def test_units(self):
        recipe = self.model(column("a", ["5%", "6.5%", "7%", "9%"]))
        same, notes = recipe.preprocessing.apply(read("a\n6.5%\n"))
        bare, told = recipe.preprocessing.apply(read("a\n6.5\n"))
        np.testing.assert_array_equal(same, bare)
        assert notes == []
        assert told == ["a: written without %, which the training data had"]
        with pytest.raises(InputError, match=r"'a' has numbers with \$, but .* had them with %"):
            recipe.preprocessing.apply(read("a\n$6.5\n"))
        recipe = self.model(column("a", ["5", "6.5", "7", "9"]))
        with pytest.raises(
            InputError, match="'a' has numbers with %, but the training data had none"
        ):
            recipe.preprocessing.apply(read("a\n6.5%\n"))


def test_texts_are_as_written_whatever_the_numbers_are():
    cells = read(column("a", ["$1,200", "$3"])).column("a")
    assert isinstance(cells, Cells)
    assert cells.tolist() == ["$1,200", "$3"]
