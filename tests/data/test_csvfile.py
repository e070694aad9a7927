"""CSV files as people have them: dialects, headers, missing values, and what is refused."""

import csv
import io
import unicodedata

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tables import column, read

from gpubp.data.cells import MISSING
from gpubp.data.prepare import prepare
from gpubp.errors import InputError


def cells(table):
    return {name: each.tolist() for name, each in table.columns.items()}


READABLE = {
    "plain": "a,b\n1,x\n2,y\n",
    "no newline at the end": "a,b\n1,x\n2,y",
    "Windows": "a,b\r\n1,x\r\n2,y\r\n",
    "byte order mark": b"\xef\xbb\xbfa,b\n1,x\n2,y\n",
    "blank lines": "\n\na,b\n\n1,x\n\n2,y\n\n",
    "spaces": " a , b\n1 , x\n2,y \n",
    "no-break spaces": "\u00a0a,b\n1\u00a0,x\n2,y\u202f\n",
    "quotes": '"a","b"\n"1","x"\n2,y\n',
    "semicolons": "a;b\n1;x\n2;y\n",
    "tabs": "a\tb\n1\tx\n2\ty\n",
    "bars": "a|b\n1|x\n2|y\n",
}


@pytest.mark.parametrize("content", READABLE.values(), ids=READABLE.keys())
def test_dialects_are_read_alike(content):
    table = read(content)
    assert cells(table) == {"a": ["1", "2"], "b": ["x", "y"]}
    assert table.numbers("a").tolist() == [1, 2]
    assert table.fingerprint() == read(READABLE["plain"]).fingerprint()


def test_what_is_uncommon_is_said():
    assert read("a,b\n1,2\n").notes == ()
    assert read("a;b\n1;2\n").notes == ("fields are separated by semicolon",)
    table = read("a,b\n1,2\n\n3,4\n\n")
    assert table.notes == ("left out 2 blank lines, the first at line 3",)
    assert table.blank == 2


def test_quoted_fields_keep_delimiters_quotes_and_lines():
    table = read('a,b\n"x, y","say ""no"""\n"two\nlines",é\nz,w\n')
    assert cells(table) == {"a": ["x, y", "two\nlines", "z"], "b": ['say "no"', "é", "w"]}
    assert table.places.tolist() == [2, 4, 5]


def test_a_field_of_other_quotes():
    table = read('a,b\n5" pipe,1\n"6"" pipe",2\n')
    assert table.texts("a").tolist() == ['5" pipe', '6" pipe']


def test_missing_values_of_texts_and_of_numbers():
    """Written as pandas writes them; None is a value among texts."""
    markers = ["", "NA", "n/a", "NaN", "null", "?", " ", "#N/A", "<NA>"]
    texts = read(column("a", [*markers, "None", "Na", "none", "x"]))
    assert texts.texts("a").tolist() == [""] * 9 + ["None", "Na", "none", "x"]
    assert texts.missing("a").tolist() == [True] * 9 + [False] * 4
    numbers = read(column("a", [*markers, "None", "1", "2"]))
    assert numbers.is_numeric("a")
    assert numbers.missing("a").tolist() == [True] * 10 + [False] * 2
    assert numbers.texts("a").tolist() == [""] * 10 + ["1", "2"]


def test_which_texts_are_missing_can_be_said():
    data = column("a", ["NA", "-", "None", "", "x"])
    assert read(data, missing=("-", "None")).texts("a").tolist() == ["NA", "", "", "", "x"]
    assert read(data, missing=("",)).texts("a").tolist() == ["NA", "-", "None", "", "x"]
    assert read(data, missing=()).missing("a").tolist() == [False] * 3 + [True, False]


@pytest.mark.parametrize("name", ["None", "none", "Na", "nil", "NONE"])
def test_none_is_a_class_among_texts(name):
    target = prepare(read(column("x", range(30), values=[name, "Brick", "Stone"]))).recipe.target
    assert set(target.classes) == {name, "Brick", "Stone"}


@pytest.mark.parametrize("name", ["NA", "null", "n/a"])
def test_names_of_missing_values_can_be_classes(name):
    data = column("x", range(30), values=[name, "Brick", "Stone"])
    prepared = prepare(read(data))
    assert prepared.recipe.target.classes == ("Brick", "Stone")
    assert prepared.left_out == 10
    prepared = prepare(read(data, missing=("",)))
    assert set(prepared.recipe.target.classes) == {name, "Brick", "Stone"}
    assert prepared.left_out == 0


class TestHeader:
    def test_unnamed_columns_are_numbered(self):
        table = read(",b\n1,2\n")
        assert list(table.columns) == ["column 1", "b"]
        assert table.notes == ("the header names no column 1",)

    def test_names_are_composed(self):
        plain = unicodedata.normalize("NFD", "größe")
        table = read(f"{plain},y\n1,0\n2,1\n1,1\n2,0\n")
        assert list(table.columns) == ["größe", "y"]
        assert table.numbers(plain).tolist() == [1, 2, 1, 2]
        assert prepare(table, target=plain).recipe.target.name == "größe"

    def test_a_line_break_in_a_name(self):
        assert list(read('"x;\ny";b\n1;2\n').columns) == ["x;\ny", "b"]
        assert list(read('"x,\ny,z",b\n1,2\n').columns) == ["x,\ny,z", "b"]
        assert list(read('a,"x\r\ny"\r\n1,2\r\n').columns) == ["a", "x\ny"]

    def test_a_delimiter_in_quotes_does_not_decide(self):
        assert list(read('"a,b,c";d\n1;2\n').columns) == ["a,b,c", "d"]

    @pytest.mark.parametrize(
        "head",
        ["5.1,3.5,1.4,setosa", "5,3,1", "1e3,a,b", "3,1,x", "-1,a", "5,5,x", "7,red"],
    )
    def test_a_file_without_one_is_refused(self, head):
        with pytest.raises(InputError, match=r"the first line holds numbers such as .*put a hea"):
            read(f"{head}\n" * 3)

    def test_a_first_row_of_values_is_told_to_need_one(self):
        with pytest.raises(InputError, match="every name in the first line, such as 'p', is a val"):
            read("p,x\n" + "e,s\np,x\n" * 3)
        assert list(read("p\n" + "e\np\n" * 3).columns) == ["p"]

    def test_one_without_numbers_is_told_to_need_one(self):
        with pytest.raises(InputError, match=r"'x' appears 2 times .*put a header above if"):
            read("p,x,x\n" * 3)

    def test_years_are_names(self):
        names = ["country", "2019", "2020"]
        assert list(read("country,2019,2020\na,1,2\nb,2,3\n").columns) == names


REFUSED = {
    "empty": ("", "is empty"),
    "blank": ("\n \n", "is empty"),
    "nothing named": ('""\n', "is empty"),
    "only delimiters": (",,\n1,2,3\n", "is empty"),
    "one huge field": ("[" + "x" * 200_000, "line 1: field larger than field limit"),
    "no rows": ("a,b\n", "a header but no rows"),
    "no rows, blank lines": ("a,b\n\n\n", "a header but no rows"),
    "twice": ("a,b,a\n1,2,3\n", "'a' appears 2 times in the header"),
    "twice, composed": ("e\u0301,\u00e9\n1,2\n", "'\u00e9' appears 2 times in the header"),
    "short row": ("a,b\n1,2\n3\n", r"line 3: 1 field, but the header has 2"),
    "long row": ("a,b\n\n1,2,3\n", r"line 3: 3 fields, but the header has 2"),
    "open quote": ('a,b\n1,2\n"3,4\n5,6\n', r"line 4: .*is a quote missing"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_unreadable_files_are_refused(content, message):
    with pytest.raises(InputError, match=message):
        read(content)


text = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8).map(str.strip)
present = text.filter(lambda cell: cell not in MISSING)


def written(*rows):
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue()


@given(rows=st.lists(st.tuples(present, present), min_size=1, max_size=20))
def test_what_the_csv_module_writes_is_read_back(rows):
    assume(not any("None" in each for each in zip(*rows, strict=True)))  # missing among numbers
    table = read(written(("first", "second"), *rows), decimal="point")
    assert list(zip(*cells(table).values(), strict=True)) == rows
    assert table.unit == "line"
    assert np.all(np.diff(table.places) > 0)


@given(st.lists(st.sampled_from(["1", "2.5", "", "x", '"a,b"']), min_size=1, max_size=12))
def test_one_row_for_each_line_of_one_column(lines):
    table = read("a\n" + "".join(f"{line}\n" for line in lines))
    assert table.texts("a").tolist() == [line.strip('"') for line in lines]
    assert table.places.tolist() == list(range(2, len(lines) + 2))


letters = st.sampled_from("019aNeE+-.,_ '$%é１")
names = st.text(letters, min_size=1, max_size=6).map(str.strip)


@given(
    st.lists(names.filter(lambda name: name not in MISSING), min_size=2, max_size=4, unique=True)
)
def test_different_texts_are_different_classes(each):
    """Unless all are numbers, of which 1 and 1.0 are one; or they are refused, which says so."""
    rows = [(index, each[index % len(each)]) for index in range(40)]
    try:
        target = prepare(read(written(("x", "y"), *rows)), target="y", task="classification")
    except InputError:
        return
    target = target.recipe.target
    if not target.numeric:
        assert set(target.classes) == set(each)


def test_different_texts_stay_different_whatever_they_look_like():
    for each in (
        ["02134", "2134"],
        ["0047583311587E590003", "0047583311587E590004"],
        ["1582218195625938945", "1582218195625938944", "1582218195625938946", "7"],
        ["9007199254740993", "9007199254740992"],
        ["100_1", "1001"],
        ["１", "1"],
        ["1", "one"],
        ["a" * 40 + "b", "a" * 40 + "c"],
        ["a" * 8 + "b", "a" * 8 + "c"],
    ):
        rows = [(each[index % len(each)], index % 2) for index in range(40)]
        table = read(written(("name", "y"), *rows))
        assert set(prepare(table, target="name").recipe.target.classes) == set(each)
        assert len(np.unique(prepare(table).X, axis=0)) == len(each)
