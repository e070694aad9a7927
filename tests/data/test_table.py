"""Tables: where they come from, what their columns are taken for, and what is refused."""

import errno
import subprocess
import sys

import numpy as np
import pytest
from tables import make

from gpubp.data import datasets, table
from gpubp.errors import InputError


@pytest.mark.parametrize("name", datasets.NAMES)
def test_bundled_sets(name):
    read = table.load(name)
    assert list(read.columns)[-1] == "target"
    assert {len(column) for column in read.columns.values()} == {read.rows}


def test_bundled_classes_have_their_names():
    assert set(table.load("iris").texts("target").tolist()) == {"setosa", "versicolor", "virginica"}
    assert set(table.load("digits").texts("target").tolist()) == set("0123456789")


def test_npz_arrays_become_columns(tmp_path):
    X = np.arange(24, dtype="float32").reshape(4, 2, 3)
    half = np.ones((4, 1), "float16")
    np.savez(tmp_path / "d.npz", X=X, half=half, y=np.array(["a", "b", "", "a"]), s=[b"u"] * 4)
    read = table.load(tmp_path / "d.npz")
    assert list(read.columns) == [*(f"X[{j}]" for j in range(6)), "half", "y", "s"]
    np.testing.assert_array_equal(read.columns["X[4]"], X[:, 1, 1])
    assert read.columns["half"].dtype == np.float32
    assert read.missing("y").tolist() == [False, False, True, False]
    assert read.texts("s").tolist() == ["u"] * 4


BAD_NPZ = {
    "lengths": ({"a": np.ones(3), "b": np.ones(4)}, "differ in their number of rows: a 3, b 4"),
    "no rows": ({"a": np.ones(0)}, "holds no rows"),
    "no arrays": ({}, "holds no rows"),
    "a number": ({"a": np.ones(3), "n": np.array(1)}, "'n' is a single value"),
    "complex": ({"a": np.ones(3, complex)}, "'a' has dtype complex128"),
    "object": ({"a": np.array([1, None])}, "Object arrays cannot be loaded"),
}


@pytest.mark.parametrize(("arrays", "message"), BAD_NPZ.values(), ids=BAD_NPZ.keys())
def test_bad_npz_files_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(InputError, match=message):
        table.load(tmp_path / "d.npz")


@pytest.mark.parametrize("content", [b"", b"no zip file", b"PK\x03\x04 cut short"])
def test_foreign_and_cut_npz_files_are_refused(tmp_path, content):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"can't be read as an \.npz file"):
        table.load(tmp_path / "d.npz")


def test_a_file_that_is_not_there(tmp_path):
    (tmp_path / "train.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match=r"no file .*did you mean 'train.csv'"):
        table.load(tmp_path / "trian.csv")
    with pytest.raises(InputError, match="did you mean 'digits'"):
        table.load("digit")
    with pytest.raises(InputError, match="bundled sets: digits, iris"):
        table.load("zzz")
    with pytest.raises(InputError, match="nor its folder"):
        table.load(tmp_path / "none" / "train.csv")
    with pytest.raises(InputError, match="is a folder"):
        table.load(tmp_path)


@pytest.mark.parametrize("name", ["d.csv", "d.npz"])
def test_a_file_that_may_not_be_read(tmp_path, monkeypatch, name):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / name).write_text("a\n1\n")
    monkeypatch.setattr(table.Path, "open", refuse)  # the mode of a file does not stop root
    with pytest.raises(InputError, match="can't be read: Permission denied"):
        table.load(tmp_path / name)


def test_what_is_numeric():
    data = make(
        a=["1", "", "-2.5e3"], b=["1", "x", "2"], c=["", "", ""], d=[1.5, np.nan, 2], e=[np.nan] * 3
    )
    assert [name for name in data.columns if data.is_numeric(name)] == ["a", "d"]
    np.testing.assert_array_equal(data.numbers("a"), [1, np.nan, -2500])
    np.testing.assert_array_equal(data.numbers("d"), [1.5, np.nan, 2])


@pytest.mark.parametrize("value", ["x", "inf", "-inf", "1e999"])
def test_a_value_that_is_no_finite_number_is_named(value):
    with pytest.raises(InputError, match=f"'a' has '{value}' at row 2, where a finite number"):
        make(a=["1", "", value, "y"]).numbers("a")
    data = make(a=["1", "", "2", value]).take(np.array([3, 0]))
    with pytest.raises(InputError, match="at row 3"):
        data.numbers("a")


def test_an_infinite_number_is_named():
    with pytest.raises(InputError, match="'a' has 'inf' at row 1"):
        make(a=[1.0, np.inf]).numbers("a")


def test_numbers_as_texts_are_written_as_people_do():
    assert make(a=[3.0, -0.5, np.nan, 1e20]).texts("a").tolist()[:3] == ["3", "-0.5", ""]
    assert make(a=np.array([3, -2], "int8")).texts("a").tolist() == ["3", "-2"]
    assert make(a=[True, False]).texts("a").tolist() == ["True", "False"]


def test_a_column_that_is_not_there():
    with pytest.raises(InputError, match="data has no column 'agee'; did you mean 'Age'"):
        make(Age=["1"], Fare=["2"]).column("agee")
    with pytest.raises(InputError, match=r"there are: c0, .*, c7 and 92 more"):
        make(**{f"c{i}": ["1"] for i in range(100)}).column("zzzz")


def test_fingerprints_tell_data_apart():
    tables = [
        make(a=["1", "2"], b=["3", "4"]),
        make(a=["1", "2"], b=["3", "5"]),
        make(a=["12", ""], b=["3", "4"]),
        make(b=["3", "4"], a=["1", "2"]),
        make(a=["1", "2"], c=["3", "4"]),
        make(a=[1.0, 2.0], b=["3", "4"]),
        make(a=np.array([1, 2]), b=["3", "4"]),
    ]
    assert len({each.fingerprint() for each in tables}) == len(tables)
    assert tables[0].fingerprint() == make(a=["1", "2"], b=["3", "4"]).fingerprint()


def test_scikit_learn_is_imported_only_for_its_sets():
    code = "import sys, gpubp.data.prepare; sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
