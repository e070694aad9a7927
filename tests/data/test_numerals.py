"""How numbers are written: the grammar, names that look like numbers, separators and units."""

from __future__ import annotations

import csv
import gzip
import io
import random
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubp.data import csvfile, numerals
from gpubp.data.prepare import prepare
from gpubp.data.table import Table, load
from gpubp.errors import InputError


def read(tmp_path: Path, text: str | bytes, name: str = "d.csv", **how: object) -> Table:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path, **how)


@given(st.from_regex(r"[-+.0-9eE_,x ]{0,8}", fullmatch=True))
def test_the_grammar_is_that_of_decimal_without_its_words(text: str) -> None:
    try:
        value = Decimal(text) if text == text.strip() and "_" not in text else None
    except InvalidOperation:
        value = None
    finite = value is not None and np.isfinite(float(value))
    assert numerals.is_numeral(text) == finite
    if finite:
        assert numerals.parse([text])[0] == float(value)


@pytest.mark.parametrize(
    "text",
    [
        "100_1",
        "１２",
        "٣",
        "inf",
        "-Infinity",
        "nan",
        "0x10",
        "1e999",
        "1,5",
        "+",
        ".",
        "1e",
        "1 2",
    ],
)
def test_what_python_takes_for_a_number_and_the_grammar_does_not(text: str) -> None:
    assert not numerals.is_numeral(text)
    assert numerals.quantities(["1", text]) is None
    assert np.isnan(numerals.parse([text])[0]) or text == "1e999"


NAMES = {
    "leading zeros": ["02134", "2134"],
    "an exponent by chance": ["0047583311587E590003", "0047583311587E590004"],
    "beyond 2^53": ["1582218195625938945", "1582218195625938944"],
    "underscores": ["100_1", "1001"],
    "full-width digits": ["１", "1"],
}


@pytest.mark.parametrize("texts", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("as_class", [True, False])
def test_different_texts_stay_different(texts: list[str], as_class: bool, tmp_path: Path) -> None:
    rows = [(texts[i % 2], i % 2) for i in range(40)]
    table = read(tmp_path, "name,y\n" + "".join(f"{a},{b}\n" for a, b in rows))
    prepared = prepare(table, target="name" if as_class else "y")
    if as_class:
        assert set(prepared.recipe.target.classes) == set(texts)
    else:
        assert prepared.X.shape == (40, 2)
        assert len(np.unique(prepared.X, axis=0)) == 2


@given(st.lists(st.text(st.characters(codec="ascii", categories=["Nd", "L"], include_characters="+-.,_ "), min_size=1, max_size=6).map(str.strip).filter(bool), min_size=2, max_size=4, unique=True))  # fmt: skip # noqa: E501
def test_distinct_texts_are_distinct_classes(tmp_path_factory, names: list[str]) -> None:
    """Unless all are plain numbers, of which 1 and 1.0 are one; or missing; or not to be read."""
    if any(name.lower() in csvfile.MISSING for name in names):
        return
    out = io.StringIO()
    csv.writer(out).writerows([("x", "y"), *((i, names[i % len(names)]) for i in range(40))])
    try:
        table = read(tmp_path_factory.mktemp("t"), out.getvalue())
        target = prepare(table, target="y", task="classification").recipe.target
    except InputError:
        return  # said, and nothing is lost
    if not target.numeric:
        assert set(target.classes) == set(names)


SEPARATED = {
    "decimal commas": ("a;b\n1,5;x\n2,25;y\n", "a", [1.5, 2.25]),
    "for the file": ('a,b\n1.234,"345,5"\n2.500,"12,25"\n', "a", [1234, 2500]),
    "commas in quotes": ('a,b\n"345,5",1\n"12,25",2\n', "a", [345.5, 12.25]),
    "thousands": ('a,b\n"59,417",1\n"1,059,417.5",2\n', "a", [59417, 1059417.5]),
    "spaces": ("a,b\n59 417,1\n1 059 417.5,2\n", "a", [59417, 1059417.5]),
    "no-break spaces": ("a,b\n59\u202f417,1\n12\u00a0000,2\n", "a", [59417, 12000]),
    "points and commas": ("a;b\n1.234,5;1\n12,25;2\n", "a", [1234.5, 12.25]),
    "dollars": ("a,b\n$59.42,1\n-$3,2\n", "a", [59.42, -3]),
    "euros behind": ("a;b\n59,42 €;1\n3 €;2\n", "a", [59.42, 3]),
    "percent": ("a,b\n59.4%,1\n3 %,2\n", "a", [59.4, 3]),
    "tabs": ("a\tb\n1,5\t1\n2,25\t2\n", "a", [1.5, 2.25]),
    "three decimals, points only": ("a;b\n1.234;1\n2.345;2\n", "a", [1.234, 2.345]),
}


@pytest.mark.parametrize(("text", "name", "values"), SEPARATED.values(), ids=SEPARATED)
def test_separators_and_units(text: str, name: str, values: list[float], tmp_path: Path) -> None:
    table = read(tmp_path, text)
    assert table.is_numeric(name)
    np.testing.assert_array_equal(table.numbers(name), values)
    if "three decimals" not in text and not text.startswith("a;b\n1.234;"):
        assert any(name in note for note in table.notes), "not said"


def test_two_ways_of_writing_numbers_in_one_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"'b' has decimal commas, but column 'a' has '1\.5' at line 2"
    ):
        read(tmp_path, 'a,b\n1.5,"345,5"\n2.5,"12,25"\n')


def test_a_column_that_has_it_only_sometimes_stays_texts(tmp_path: Path) -> None:
    table = read(tmp_path, "a,b\n$5,1\n7,2\n")
    assert not table.is_numeric("a")
    assert table.texts("a").tolist() == ["$5", "7"]


ODD = ["unknown", "-", ".", "$59.42", "59.4%", "5 9", "1_000", "inf"]


@pytest.mark.parametrize("odd", ODD)
def test_one_odd_cell_does_not_cost_a_column(odd: str, tmp_path: Path) -> None:
    """It is missing, which is said with its line; and whichever rows are drawn for training."""
    draw = random.Random(0)
    cells = [f"{draw.gauss(0, 1):.3f}" for _ in range(300)]
    cells[50] = odd
    table = read(tmp_path, "x,y\n" + "".join(f"{c},{i % 2}\n" for i, c in enumerate(cells)))
    for seed in range(3):
        prepared = prepare(table, validation=0.2, test=0.3, seed=seed)
        assert prepared.X.shape == (300, 1)
        told = f"x: 299 of 300 are numbers, but not {odd!r} at line 52; taken for missing: {odd!r}"
        assert told in prepared.notes
    again = type(prepared.recipe).from_json(prepared.recipe.to_json())
    np.testing.assert_array_equal(again.preprocessing.apply(table)[0], prepared.X)


@pytest.mark.parametrize("marker", ["#N/A", "NA", "<NA>", "null", "NaN", "N/A", "?", ""])
def test_markers_of_missing_values(marker: str, tmp_path: Path) -> None:
    text = "x,y\n" + "".join(f"{i + 0.5 if i else marker},{i % 2}\n" for i in range(30))
    assert np.isnan(read(tmp_path, text).numbers("x")[0])
    if marker:
        table = read(tmp_path, text, missing=["unknown"])
        assert table.texts("x")[0] == marker


def test_none_is_a_class_among_texts(tmp_path: Path) -> None:
    text = "x,y\n" + "".join(f"{i},{['None', 'Brick', 'Stone'][i % 3]}\n" for i in range(30))
    assert prepare(read(tmp_path, text)).recipe.target.classes == ("Brick", "None", "Stone")


def test_columns_that_number_the_rows_are_left_out(tmp_path: Path) -> None:
    rows = [(i, i, i, (i * 7919) % 1000, i % 2, i % 3) for i in range(1, 41)]
    head = ",Id,day,ticket,x,y\n"
    table = read(tmp_path, head + "".join(",".join(map(str, r)) + "\n" for r in rows))
    prepared = prepare(table)
    notes = "\n".join(prepared.notes)
    assert "left out, it numbers the rows: column 1" in notes
    assert "left out, it numbers the rows: Id" in notes
    assert "day: a whole number of its own in every row" in notes
    assert "ticket: a whole number of its own in every row" in notes
    assert [c.name for c in prepared.recipe.preprocessing.columns] == ["day", "ticket", "x"]


@pytest.mark.parametrize(
    "head", ["5.1,3.5,1.4,setosa\n", "5,3,1\n", "1e3,a,b\n"], ids=["some", "all", "exponent"]
)
def test_a_file_without_a_header_is_refused(head: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the first line holds numbers such as .*put a header"):
        read(tmp_path, head * 3)


def test_years_are_names_of_columns(tmp_path: Path) -> None:
    assert list(read(tmp_path, "country,2019,2020\na,1,2\nb,2,3\n").columns) == [
        "country", "2019", "2020",
    ]  # fmt: skip


FILES = {
    "carriage returns": b"a,b\r1,x\r2,y\r",
    "gzip": gzip.compress(b"a,b\n1,x\n2,y\n"),
    "UTF-16": "a,b\n1,x\n2,y\n".encode("utf-16"),
    "UTF-16 without a mark": "a,b\n1,x\n2,y\n".encode("utf-16-le"),
    "UTF-16 of big ends": "a,b\n1,x\n2,y\n".encode("utf-16-be"),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_files_of_other_systems(data: bytes, tmp_path: Path) -> None:
    table = read(tmp_path, data)
    assert table.texts("a").tolist() == ["1", "2"]
    assert table.texts("b").tolist() == ["x", "y"]


def test_latin_1_is_read_and_said(tmp_path: Path) -> None:
    data = "a,b\n1,x\n2,café\n".encode("latin-1")
    table = read(tmp_path, data)
    assert table.texts("b").tolist() == ["x", "café"]
    assert "read as Latin-1 (Windows-1252): byte 0xe9 at line 3" in table.notes[0]
    assert read(tmp_path, data, encoding="latin-1").notes == ()
    with pytest.raises(InputError, match=r"line 3: byte 0xe9 is not utf-8"):
        read(tmp_path, data, encoding="utf-8")
    with pytest.raises(InputError, match="there is no encoding 'klingon'"):
        read(tmp_path, data, encoding="klingon")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a,b\n1,x\n")))
    table = load("-")
    assert table.texts("a").tolist() == ["1"]
    assert table.origin == "the standard input"


@given(st.lists(st.sampled_from(["1", "2.5", "", "x"]), min_size=1, max_size=12))
def test_one_row_for_each_line_of_one_column(tmp_path_factory, cells: list[str]) -> None:
    table = read(tmp_path_factory.mktemp("one"), "a\n" + "".join(f"{c}\n" for c in cells))
    assert table.texts("a").tolist() == cells
    assert table.places.tolist() == list(range(2, len(cells) + 2))


def test_blank_lines_of_several_columns_are_counted(tmp_path: Path) -> None:
    table = read(tmp_path, "a,b\n1,2\n\n3,4\n\n")
    assert table.rows == 2
    assert table.notes == ("left out 2 blank lines, the first at line 3",)


def test_names_are_composed_and_headers_may_have_line_breaks(tmp_path: Path) -> None:
    table = read(tmp_path, 'cafe\u0301;"x;\ny"\n1;2\n')
    assert list(table.columns) == ["caf\u00e9", "x;\ny"]
    assert table.column("cafe\u0301").tolist() == ["1"]
