"""What columns are: numbers but for some odd values, names, and those that number the rows."""

import random

import numpy as np
import pytest
from tables import column, make, read

from gpubp.data.prepare import Recipe, prepare
from gpubp.errors import InputError

ODD = ["unknown", "-", ".", "missing", "$59.42", "59.4%", "5 9", "1_000", "inf", "345,5", "na"]


def numbers(count=300):
    draw = random.Random(0)
    return [f"{draw.gauss(0, 1):.3f}" for _ in range(count)]


def used(prepared):
    return [each.name for each in prepared.recipe.preprocessing.columns]


@pytest.mark.parametrize("odd", ODD)
def test_one_odd_value_does_not_cost_a_column(odd):
    """It is missing, which is said with its line, whichever rows are drawn for training."""
    cells = numbers()
    cells[50] = odd
    table = read(column("x", cells))
    told = f"x: 299 of 300 are numbers, but {odd!r} at line 52 is not; taken for missing: {odd!r}"
    for seed in range(3):
        prepared = prepare(table, validation=0.2, test=0.3, seed=seed)
        assert prepared.X.shape == (300, 1)
        assert told in prepared.notes
    again = Recipe.from_json(prepared.recipe.to_json())
    np.testing.assert_array_equal(again.preprocessing.apply(table)[0], prepared.X)
    with pytest.raises(InputError, match="'x' has 'other' at line 2, where a finite number"):
        again.preprocessing.apply(read("x\nother\n"))


@pytest.mark.parametrize(("odd", "value"), [("59,417", 59417), ("59 417", 59417)])
def test_one_value_with_thousands_parted_is_read(odd, value):
    cells = numbers()
    cells[50] = odd
    table = read(column("x", cells))
    assert table.numbers("x")[50] == value
    assert "separators of thousands were read in x" in table.notes


@pytest.mark.parametrize("marker", ["#N/A", "NA", "<NA>", "null", "NaN", "N/A", "None", "?", ""])
def test_markers_of_missing_values(marker):
    cells = numbers(30)
    cells[4] = marker
    prepared = prepare(read(column("x", cells)))
    assert [note for note in prepared.notes if note.startswith("x: 1 missing")]
    assert not [note for note in prepared.notes if "are numbers" in note]
    if marker:
        kept = prepare(read(column("x", cells), missing=()))
        assert f"x: 29 of 30 are numbers, but {marker!r} at line 6 is not; taken for missing: {marker!r}" in kept.notes  # fmt: skip # noqa: E501


def test_one_text_among_many_numbers_is_missing_however_often():
    cells = numbers(100)
    cells[10:40] = ["unknown"] * 30
    prepared = prepare(read(column("x", cells)))
    assert used(prepared) == ["x"]
    assert "x: 70 of 100 are numbers, but 'unknown' at line 12 is not; taken for missing: 'unknown'" in prepared.notes  # fmt: skip # noqa: E501


def test_a_column_that_became_texts_is_a_warning():
    cells = numbers(100)
    cells[10:20] = [f"about {value}" for value in cells[10:20]]
    prepared = prepare(read(column("x", cells, "a,y", ["1,0", "2,1", "3,0"])))
    told = [note for note in prepared.notes if note.startswith("warning: x is taken for texts: ")]
    assert told == [f"warning: x is taken for texts: 90 of 100 are numbers, but {cells[10]!r} at line 12 is not"]  # fmt: skip # noqa: E501
    assert "left out, too many different texts: x" in prepared.notes


def test_a_few_codes_and_a_text_are_categories():
    cells = ["1", "2", "3", "4", "none of these"] * 20
    prepared = prepare(read(column("x", cells, values="0110")))
    assert prepared.X.shape == (100, 5)


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["02134", "2134"], "'02134' at line 2 begins with a zero"),
        (
            ["1582218195625938945", "1582218195625938944"],
            "'1582218195625938945' at line 2 has more",
        ),
    ],
)
def test_names_made_of_digits_are_categories_and_said(cells, why):
    prepared = prepare(read(column("zip", cells * 20, values="0110")))
    assert prepared.X.shape == (40, 2)
    assert [note for note in prepared.notes if note.startswith("zip: names, not quantities")]
    assert why in "\n".join(prepared.notes)


def test_long_whole_numbers_of_an_array_are_names():
    values = np.array([1582218195625938945, 1582218195625938946] * 10)
    prepared = prepare(make(a=values, y=[0, 1] * 10))
    assert prepared.X.shape == (20, 2)
    assert "a: names, not quantities, because 1582218195625938945 has more digits than a float64 holds" in prepared.notes  # fmt: skip # noqa: E501
    target = prepare(make(a=np.arange(20.0), y=values)).recipe.target
    assert target.classes == ("1582218195625938945", "1582218195625938946")


def test_columns_that_number_the_rows_are_left_out_and_others_warned_of():
    head = ",Id,row#,PassengerId,day,ticket,humid,x,y\n"
    rows = [(i, 41 - i, i, 7 * i, i, (i * 7919) % 1000, 3 * i, i % 2, i % 3) for i in range(1, 41)]
    prepared = prepare(read(head + "".join(",".join(map(str, row)) + "\n" for row in rows)))
    assert used(prepared) == ["day", "ticket", "humid", "x"]
    for name in ("column 1", "Id", "row#", "PassengerId"):
        assert f"left out, it numbers the rows: {name}" in prepared.notes
    for name in ("day", "ticket", "humid"):
        assert [n for n in prepared.notes if n.startswith(f"warning: {name} is a whole number of")]
    assert not [note for note in prepared.notes if note.startswith("warning: x")]


def test_an_id_that_comes_again_is_used():
    prepared = prepare(make(id=["1", "2", "1", "3"], y=["0", "1", "0", "1"]))
    assert used(prepared) == ["id"]


def test_a_table_of_ids_alone_is_refused():
    with pytest.raises(InputError, match=r"no column but 'y' can be used; .* or numbers the rows"):
        prepare(make(Id=["1", "2", "3", "4"], y=["0", "1", "0", "1"]))


@pytest.mark.parametrize("odd", ["unknown", "1_000", "inf"])
def test_a_target_of_numbers_with_an_odd_value_is_refused_with_its_line(odd):
    cells = numbers()
    cells[50] = odd
    text = "x,y\n" + "".join(f"{i % 7},{cell}\n" for i, cell in enumerate(cells))
    with pytest.raises(InputError, match=f"the target is of numbers, but column 'y' has '{odd}' at line 52; .*--missing"):  # fmt: skip # noqa: E501
        prepare(read(text))
    prepared = prepare(read(text, missing=(odd,)))
    assert prepared.left_out == 1
    assert prepared.recipe.target.task == "regression"


@pytest.mark.parametrize(("name", "why"), [("02", "begins"), ("9007199254740993", "has more")])
def test_one_name_among_quantities_is_read_as_a_number(name, why):
    cells = [str(random.Random(1).randrange(900) + index % 400) for index in range(300)]
    cells[50] = name
    table = read(column("x", cells))
    prepared = prepare(table)
    assert used(prepared) == ["x"]
    assert f"x: {name!r} at line 52 {why}" in "\n".join(prepared.notes)
    assert "read as a number all the same" in "\n".join(prepared.notes)
    cells[60] = {"02": "2", "9007199254740993": "9007199254740992"}[name]  # the same number
    assert not read(column("x", cells)).is_numeric("x")
    cells[50] = "002"  # as long as most
    assert not read(column("x", cells)).is_numeric("x")


def test_columns_of_both_decimals_are_a_warning():
    cells = [f"{i}.5" if i % 2 else f"{i},25" for i in range(100)]
    prepared = prepare(read(column("x", cells, "a,y", ["1,0", "2,1", "3,0"])))
    told = "it has decimal points, '1.5' at line 3 and decimal commas, '0,25' at line 2"
    assert f"warning: x is taken for texts: {told}" in prepared.notes


def test_two_texts_among_many_numbers_may_be_missing():
    cells = numbers(100)
    cells[10:30], cells[30:50] = ["unknown"] * 20, ["refused"] * 20
    prepared = prepare(read(column("x", cells)))
    told = "60 of 100 are numbers, but 'unknown' at line 12 is not"
    assert f"x: {told}; taken for missing: 'refused', 'unknown'" in prepared.notes


def test_a_few_odd_values_of_any_number_are_missing():
    cells = numbers()
    cells[50:55] = ["a", "b", "c", "d", "e"]
    prepared = prepare(read(column("x", cells)))
    told = "x: 295 of 300 are numbers, but 'a' at line 52 is not; taken for missing: 'a', 'b', 'c', 'd', 'e'"  # noqa: E501
    assert told in prepared.notes


def test_few_texts_among_few_different_numbers_are_categories():
    prepared = prepare(read(column("x", ["1", "2", "3", "4", "5"] * 15 + ["none"] * 5)))
    assert prepared.X.shape == (80, 6)
