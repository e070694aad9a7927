"""CSV files as people have them: dialects, encodings, missing values, and what is refused."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubp.data import csvfile, table
from gpubp.errors import InputError


@pytest.fixture
def write(tmp_path):
    def write(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def cells(read):
    return {name: column.tolist() for name, column in read.columns.items()}


READABLE = {
    "plain": "a,b\n1,x\n2,y\n",
    "no newline at the end": "a,b\n1,x\n2,y",
    "Windows": "a,b\r\n1,x\r\n2,y\r\n",
    "byte order mark": b"\xef\xbb\xbfa,b\n1,x\n2,y\n",
    "blank lines": "\n\na,b\n\n1,x\n\n2,y\n\n",
    "spaces": " a , b\n1 , x\n2,y \n",
    "quotes": '"a","b"\n"1","x"\n2,y\n',
    "semicolons": "a;b\n1;x\n2;y\n",
    "tabs": "a\tb\n1\tx\n2\ty\n",
    "bars": "a|b\n1|x\n2|y\n",
}


@pytest.mark.parametrize("content", READABLE.values(), ids=READABLE.keys())
def test_dialects_are_read_alike(write, content):
    assert cells(csvfile.read(write(content))) == {"a": ["1", "2"], "b": ["x", "y"]}


def test_an_uncommon_delimiter_is_said(write):
    assert csvfile.read(write("a,b\n1,2\n")).notes == ()
    assert csvfile.read(write("a;b\n1;2\n")).notes == ("fields are separated by semicolon",)


def test_quoted_fields_keep_delimiters_quotes_and_lines(write):
    read = csvfile.read(write('a,b\n"x, y","say ""no"""\n"two\nlines",é\nz,w\n'))
    assert cells(read) == {"a": ["x, y", "two\nlines", "z"], "b": ['say "no"', "é", "w"]}
    assert read.lines.tolist() == [2, 4, 5]


def test_a_delimiter_in_quotes_does_not_decide(write):
    assert list(csvfile.read(write('"a,b,c";d\n1;2\n')).columns) == ["a,b,c", "d"]


def test_missing_values_become_empty(write):
    read = csvfile.read(write("a,b\n,1\nNA,1\nn/a,1\nNaN,1\nnull,1\nNone,1\n?,1\n ,1\nx,1\n"))
    assert cells(read)["a"] == [""] * 8 + ["x"]


def test_decimal_commas_are_read_where_they_make_numbers(write):
    read = csvfile.read(write("a;b;c\n1,5;x,y;3\n;1,5;4\n-2,25;z;5\n"))
    np.testing.assert_array_equal(read.numbers["a"], [1.5, np.nan, -2.25])
    assert "b" not in read.numbers
    assert "decimal commas were read in a" in read.notes


def test_unnamed_columns_are_numbered(write):
    read = csvfile.read(write(",b\n1,2\n"))
    assert list(read.columns) == ["column 1", "b"]
    assert read.notes == ("the header names no column 1",)


def test_more_rows_than_a_block(write, monkeypatch):
    monkeypatch.setattr(csvfile, "_BLOCK_ROWS", 4)
    read = csvfile.read(write("a,b\n" + "".join(f"{i},{-i}\n" for i in range(11))))
    assert cells(read) == {"a": [str(i) for i in range(11)], "b": [str(-i) for i in range(11)]}
    assert read.lines.tolist() == list(range(2, 13))


REFUSED = {
    "empty": ("", "is empty"),
    "blank": ("\n \n", "is empty"),
    "nothing named": ('""\n', "is empty"),
    "only delimiters": (",,\n1,2,3\n", "is empty"),
    "one huge field": ("[" + "x" * 200_000, "line 1: field larger than field limit"),
    "no rows": ("a,b\n", "a header but no rows"),
    "no header": ("1,2.5\n3,4\n", "first line holds numbers such as 1; put a header"),
    "no header, a class": (
        "5.1,3.5,setosa\n4.9,3,setosa\n",
        "first line holds numbers such as 5.1",
    ),
    "twice": ("a,b,a\n1,2,3\n", "'a' appears 2 times in the header"),
    "short row": ("a,b\n1,2\n3\n", r"line 3: 1 fields, but the header has 2"),
    "long row": ("a,b\n\n1,2,3\n", r"line 3: 3 fields, but the header has 2"),
    "open quote": ('a,b\n1,2\n"3,4\n5,6\n', r"line 4: .*is a quote missing"),
    "binary": (b"PK\x03\x04\0\0\n", "line 1: not text; gpubp reads .npz and CSV"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_unreadable_files_are_refused(write, content, message):
    with pytest.raises(InputError, match=message):
        csvfile.read(write(content))


text = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8).map(str.strip)
present = text.filter(lambda cell: cell.lower() not in csvfile.MISSING)


@given(rows=st.lists(st.tuples(present, present), min_size=1, max_size=20))
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("first", "second"), *rows])
    read = table.load(path)
    assert list(zip(*(c.tolist() for c in read.columns.values()), strict=True)) == rows
    assert read.unit == "line"
    assert np.all(np.diff(read.places) > 0)
