"""Where fields lie in a file, against the csv module."""

import csv
import io

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpubp.data import fields
from gpubp.data.fields import Fields
from gpubp.errors import InputError


def found(text, delimiter=","):
    """Return the rows as lists of texts, and their lines."""
    rows, lines = [], []
    for piece in Fields(text.encode(), delimiter, "file"):
        cells = [
            [
                piece.data[i:j].tobytes().decode().replace('""', '"').strip()
                for i, j in zip(starts, ends, strict=True)
            ]
            for starts, ends in zip(piece.starts, piece.ends, strict=True)
        ]
        rows += map(list, zip(*cells, strict=True))
        lines += piece.lines.tolist()
    return rows, lines


def expected(text, delimiter=","):
    """Return the same by the csv module, whose rows of one column may be blank lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, lines = [], []
    for row in reader:
        if len(row) < 2 and not any(cell.strip() for cell in row):
            if rows and len(rows[0]) == 1:
                rows.append([""])
                lines.append(reader.line_num)
            continue
        rows.append([cell.strip() for cell in row])
        lines.append(reader.line_num)
        if len(row) != len(rows[0]):
            raise ValueError(reader.line_num)
    return rows, lines


@pytest.mark.parametrize("size", [1, 5, 1 << 19])
@given(text=st.text(st.sampled_from('a"", \n;é'), max_size=40))
@example(text='a,b\n"x, y","say ""no"""\n"two\nlines",é\nz,w')
@example(text='a\n\n""\n"  "\n b \n')
@example(text='5" pipe,b\n"a","b"\n')
@example(text='a,b\n"c",d\n"e"x,f\n')
@example(text='a,b\n"c",d\n"e')
def test_fields_are_those_of_the_csv_module(size, text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "_PIECE", size)
        try:
            right = expected(text)
        except (ValueError, csv.Error):
            with pytest.raises(InputError, match=r"file, line [0-9]+: "):
                found(text)
        else:
            assert found(text) == right


def test_a_row_of_other_length_is_named_by_its_line():
    for text, message in {
        "a,b\n1,2\n3\n": "line 3: 1 field, but the header has 2",
        "a,b\n\n1,2,3\n": "line 3: 3 fields, but the header has 2",
        'a,b\n"x\ny",2\n\n1,2,3\n': "line 5: 3 fields, but the header has 2",
        'a,b\n5" pipe,2\n\n1,2,3\n': "line 4: 3 fields, but the header has 2",
        "a\n1\n1,2\n": "line 3: 2 fields, but the header has 1",
    }.items():
        with pytest.raises(InputError, match=message):
            found(text)


def test_a_quote_that_is_not_closed_is_named_by_the_last_line():
    with pytest.raises(InputError, match=r"line 4: .*is a quote missing"):
        found('a,b\n1,2\n"3,4\n5,6\n')
    with pytest.raises(InputError, match=r"line 2: field larger than field limit"):
        found('a,b\n"' + "x" * (1 << 18) + '",2\n')


def test_blank_lines_are_rows_of_one_column_and_else_counted():
    assert found("a\n1\n\n2\n\n") == ([["a"], ["1"], [""], ["2"], [""]], [1, 2, 3, 4, 5])
    counted = Fields(b"\n\na,b\n\n1,2\n \n3,4\n\n", ",", "file")
    assert sum(len(piece.lines) for piece in counted) == 3
    assert (counted.blank, counted.first_blank) == (3, 4)


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1,5;2,5\n", ";"),
        ("a\tb\n1,5\t2,5\n", "\t"),
        ("\tb\tc\n1\t2\t3\n", "\t"),
        ("a|b\n1|2\n", "|"),
        ('"a,b,c";d\n1;2\n', ";"),
        ('"a\nb;c;d",e\n1,2\n', ","),
        ("price, net;b\n1,5;2,5\n", ";"),
        ("a,b;c\n1,2;3\n1,2;3;4\n", ","),
        ("one\ntwo\n", ","),
        ("\n\na;b\n1;2\n", ";"),
        ("a;b\n" + "1,5;2,5\n" * 20_000, ";"),
    ],
)
def test_the_delimiter_is_the_one_that_parts_all_rows_alike(text, delimiter):
    assert fields.delimiter(text.encode()) == delimiter


def test_pieces_make_the_whole(monkeypatch):
    text = "a,b\n" + "".join(f"{i},{-i}\n" for i in range(3000))
    whole = found(text)
    monkeypatch.setattr(fields, "_PIECE", 777)
    assert found(text) == whole
    assert whole[1] == list(np.arange(1, 3002))


def test_blanks_around_a_field_are_not_of_it():
    (piece,) = Fields(b'a,b\n \t1 ," x y "\n', ",", "file")
    assert piece.starts[:, 1].tolist() == [6, 11]
    assert piece.ends[:, 1].tolist() == [7, 14]
