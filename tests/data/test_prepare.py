"""From a table to arrays: the target, the columns, what is said, and the recipe in JSON."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import column, make, read

from gpubp.data import target
from gpubp.data.prepare import Recipe, prepare
from gpubp.data.table import load
from gpubp.errors import CheckpointError, InputError


def said(prepared):
    return "\n".join(prepared.notes)


class TestTarget:
    @pytest.mark.parametrize(
        ("names", "chosen", "why"),
        [
            (["a", "b", "c"], "c", "the last column"),
            (["a", "Target", "c"], "Target", "by its name"),
            (["label", "b", "c"], "label", "by its name"),
            (["y", "b"], "y", "by its name"),
        ],
    )
    def test_the_usual_names_come_first_then_the_last_column(self, names, chosen, why):
        table = make(**{name: ["1"] for name in names})
        assert target.choose(table, None) == (chosen, why)
        assert target.choose(table, names[1]) == (names[1], "as asked")

    def test_a_target_that_is_not_there(self):
        with pytest.raises(InputError, match="no column 'survive'; did you mean 'Survived'"):
            target.choose(make(Survived=["1"], Age=["2"]), "survive")

    def test_a_target_with_nothing_to_predict_it_from(self):
        with pytest.raises(InputError, match=r"single column 'y'.*separated by"):
            target.choose(make(y=["1", "2"]), None)

    @pytest.mark.parametrize(
        ("values", "task", "classes"),
        [
            (["b", "a", "b"], "classification", ("a", "b")),
            ([True, False, True], "classification", ("False", "True")),
            (["1", "0", "1"], "classification", ("0", "1")),
            ([10.0, 9.0, 10.0], "classification", ("9", "10")),
            ([-1, 1, 1, -1], "classification", ("-1", "1")),
            (["10", "9.0", "9"] * 10 + ["11"] * 10, "classification", ("9", "10", "11")),
            (list(range(20)) * 5, "classification", tuple(map(str, range(20)))),
            (list(range(21)) * 5, "regression", ()),
            (list(range(20)) * 4, "regression", ()),
            (["0.5", "1", "2"] * 9, "regression", ()),
            (["1", "2", "3"], "regression", ()),
        ],
    )
    def test_the_task_is_inferred(self, values, task, classes):
        found, _ = target.infer(make(y=values), "y")
        assert (found.task, found.classes) == (task, classes)

    def test_the_task_can_be_asked_for(self):
        few = make(y=["1", "0", "1"])
        assert target.infer(few, "y", "regression") == (target.Target("y"), "as the loss asks")
        many = make(y=["2.5", "0.5", "2.5"] * 3)
        assert target.infer(many, "y", "classification")[0].classes == ("0.5", "2.5")

    @pytest.mark.parametrize(
        ("values", "task", "message"),
        [
            (["", ""], None, "'y', has no value in any row"),
            ([np.nan, np.nan], None, "'y', has no value in any row"),
            (["a", "a", ""], None, "is a in every row.*two classes"),
            (["3", "3"], None, "is 3 in every row"),
            ([f"t{i}" for i in range(30)], None, "30 different values in 30 rows, too many"),
            (["1", "x"], "regression", "'y' has 'x' at row 1, where a finite number"),
            (["1", "inf"], None, "'y' has 'inf' at row 1"),
        ],
    )
    def test_targets_that_cannot_be_learned_are_refused(self, values, task, message):
        with pytest.raises(InputError, match=message):
            target.infer(make(y=values), "y", task)

    @pytest.mark.parametrize(
        ("cells", "classes"),
        [
            (["1e3", "2e3"], ("1e3", "2e3")),
            (["10.0", "9.0"], ("9.0", "10.0")),
            (["1.0", "1", "2"], ("1", "2")),
            (["$1,200", "$3"], ("3", "1200")),
            (["1,5", "2,5"], ("1.5", "2.5")),
            (["+1", "-1"], ("-1", "+1")),
            (
                ["0.12345678901234567", "0.12345678901234568"],
                ("0.12345678901234567", "0.12345678901234568"),
            ),
        ],
    )
    def test_classes_that_are_numbers_have_their_names(self, cells, classes):
        """As they are written, unless that is in two ways or not the grammar's."""
        table = read(column("x", range(42), values=[f'"{cell}"' for cell in cells]))
        coding, _ = target.infer(table, "y", "classification")
        assert coding.classes == classes
        assert target.Target.from_json(coding.to_json()) == coding
        coded = coding.encode(table)
        assert len(np.unique(coded)) == len(classes)

    def test_classes_are_coded_by_their_order(self):
        coding = target.Target("y", ("9", "10"), numeric=True)
        assert coding.encode(make(y=["10", "9.0", "9"])).tolist() == [1, 0, 0]
        assert coding.encode(make(y=[9, 10])).dtype == np.int64

    def test_texts_that_look_like_numbers_stay_texts(self):
        coding, _ = target.infer(make(y=["01", "1", "x"] * 5), "y")
        assert coding.classes == ("01", "1", "x")
        assert coding.encode(make(y=["1", "01"])).tolist() == [1, 0]

    def test_an_unknown_class_is_named(self):
        coding = target.Target("y", ("a", "b"), numeric=False)
        with pytest.raises(InputError, match=r"'y' has 'c' at row 2, a class that.*it had: a, b"):
            coding.encode(make(y=["a", "b", "c", "d"]))
        with pytest.raises(InputError, match="'y' has no value at row 1"):
            coding.encode(make(y=["a", "", "c"]))

    def test_values_come_back(self):
        coding = target.Target("y", mean=50.0, scale=10.0)
        coded = coding.encode(make(y=[40.0, 55.0]))
        assert coded.tolist() == [-1.0, 0.5]
        assert coded.dtype == np.float32
        assert coding.decode(coded).tolist() == [40.0, 55.0]


class TestColumns:
    def test_numbers_are_filled_and_standardised(self):
        prepared = prepare(make(a=["1", "", "4", "10"], y=["0", "1", "0", "1"]))
        filled = np.array([1, 4, 4, 10.0])
        np.testing.assert_allclose(
            prepared.X[:, 0], (filled - filled.mean()) / filled.std(), rtol=1e-6
        )
        assert prepared.X.dtype == np.float32
        assert prepared.X.flags.c_contiguous
        assert "a: 1 missing, filled with the median 4" in prepared.notes
        assert "columns: 1 numeric, standardised" in prepared.notes

    def test_texts_become_one_hot(self):
        prepared = prepare(make(c=["red", "", "blue", "red"], y=["0", "1", "0", "1"]))
        assert prepared.X.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
        assert "columns: 1 of texts, one-hot in 3 inputs" in prepared.notes

    def test_columns_without_information_are_left_out_and_said(self):
        rows = 60
        prepared = prepare(
            make(
                one=["7"] * rows,
                none=[""] * rows,
                same=["x"] * rows,
                sevens=["7", ""] * (rows // 2),
                name=[f"n{i}" for i in range(rows)],
                a=[str(i) for i in range(rows)],
                y=["0", "1"] * (rows // 2),
            )
        )
        assert [column.name for column in prepared.recipe.preprocessing.columns] == ["a"]
        assert "same in every training row: one, none, same, sevens" in said(prepared)
        assert "too many different texts: name" in said(prepared)

    def test_no_column_left(self):
        with pytest.raises(InputError, match="no column but 'y' can be used"):
            prepare(make(a=["1", "1"], y=["0", "1"]))

    @pytest.mark.parametrize("size", [1.7e308, 1e200, 1.0, 1e-200, 1e-307])
    def test_huge_and_tiny_values_are_standardised(self, size):
        """Their squares are beyond float64, and so is the difference of the largest."""
        values = np.array([-1.0, 1.0, -1.0, 1.0]) * size
        prepared = prepare(make(a=values, y=["0", "1", "1", "0"]))
        np.testing.assert_allclose(prepared.X[:, 0], [-1, 1, -1, 1], rtol=1e-6)
        prepared = prepare(make(a=["1", "2", "4", "3"], y=values), task="regression")
        np.testing.assert_allclose(prepared.y, [-1, 1, -1, 1], rtol=1e-6)
        np.testing.assert_allclose(prepared.recipe.target.decode(prepared.y), values, rtol=1e-6)

    def test_what_varies_by_rounding_alone_is_constant(self):
        noise = [14.62, np.nextafter(14.62, 15), 14.62, np.nextafter(14.62, 14)]
        prepared = prepare(make(a=noise, b=[1.0, 2, 3, 4], y=["0", "1", "1", "0"]))
        assert "same in every training row: a" in said(prepared)
        with pytest.raises(InputError, match=r"'y' is 14\.62 in every row"):
            prepare(make(b=[1.0, 2, 3, 4], y=noise), task="regression")

    def test_only_the_training_rows_count(self):
        rng = np.random.default_rng(0)
        a, y = rng.normal(5, 3, 200), rng.integers(0, 2, 200)
        prepared = prepare(make(a=a, y=y), validation=0.2, test=0.3)
        train = prepared.X[prepared.rows.train]
        assert abs(train.mean()) < 1e-6
        assert abs(train.std() - 1) < 1e-6
        assert abs(prepared.X[prepared.rows.test].mean()) > 1e-3

    def test_rows_without_a_target_are_left_out_and_said(self):
        prepared = prepare(make(a=["1", "2", "3", "4"], y=["0", "", "1", "NA"[:0]]))
        assert prepared.y.tolist() == [0, 1]
        assert len(prepared.X) == 2
        assert "left out 2 rows without a value in 'y'" in prepared.notes

    def test_a_bad_value_keeps_its_place_when_rows_were_left_out(self):
        table = make(a=["1", "2", "3", "4", "x"], y=["", "0", "1", "", "0"])
        prepared = prepare(make(a=["1", "2"], y=["0", "1"]))
        kept = table.take(np.array([1, 2, 4]))
        with pytest.raises(InputError, match="'a' has 'x' at row 4"):
            prepared.recipe.preprocessing.apply(kept)

    def test_regression_targets_are_standardised_unless_told_not_to(self):
        table = make(a=np.arange(50.0), y=np.arange(50.0) ** 2)
        prepared = prepare(table, test=0.2)
        train = prepared.y[prepared.rows.train]
        assert prepared.recipe.target.task == "regression"
        assert abs(train.mean()) < 1e-6
        assert abs(train.std() - 1) < 1e-6
        np.testing.assert_allclose(
            prepared.recipe.target.decode(prepared.y), np.arange(50.0) ** 2, atol=1e-3
        )
        raw = prepare(table, standardise_target=False)
        np.testing.assert_array_equal(raw.y, np.arange(50.0, dtype="float32") ** 2)


class TestNewData:
    @pytest.fixture
    def recipe(self):
        table = make(a=["1", "2", "3"], c=["x", "y", "x"], y=["0", "1", "0"])
        return prepare(table).recipe

    def test_unknown_values_are_zero_everywhere_and_counted(self, recipe):
        X, notes = recipe.preprocessing.apply(make(a=["1", "2"], c=["z", ""]))
        assert X[:, 1:].tolist() == [[0, 0], [0, 0]]
        assert notes == ["c: 2 unknown ('', 'z'), taken for none of its values"]

    def test_the_order_of_the_columns_does_not_matter(self, recipe):
        first, _ = recipe.preprocessing.apply(make(a=["1"], c=["x"]))
        second, _ = recipe.preprocessing.apply(make(other=["9"], c=["x"], a=["1"]))
        np.testing.assert_array_equal(first, second)

    def test_a_column_that_is_not_there(self, recipe):
        with pytest.raises(InputError, match="data has no column 'c'; did you mean 'C'"):
            recipe.preprocessing.apply(make(a=["1"], C=["x"]))

    def test_texts_where_numbers_were(self, recipe):
        with pytest.raises(InputError, match="'a' has 'one' at row 1"):
            recipe.preprocessing.apply(make(a=["1", "one"], c=["x", "x"]))

    def test_none_is_missing_where_numbers_were(self, recipe):
        X, notes = recipe.preprocessing.apply(read("a,c\nNone,x\nNone,x\nNA,x\n"))
        assert "a: 3 missing, filled with the median 2" in notes
        assert X[:, 0].tolist() == [0, 0, 0]

    def test_names_where_numbers_were_are_told(self, recipe):
        _, notes = recipe.preprocessing.apply(read("a,c\n02,x\n"))
        assert notes == ["a: '02' at line 2 begins with a zero; read as a number, as in training"]

    def test_numbers_too_far_away(self, recipe):
        with pytest.raises(InputError, match=r"'a' has 1e\+300 at row 1, too far"):
            recipe.preprocessing.apply(make(a=["1", "1e300"], c=["x", "x"]))


class TestRecipe:
    @pytest.mark.parametrize("name", ["iris", "diabetes"])
    def test_it_comes_back_from_json(self, name):
        table = load(name)
        prepared = prepare(table, validation=0.1, test=0.2, seed=3)
        recipe = Recipe.from_json(json.loads(json.dumps(prepared.recipe.to_json())))
        assert recipe == prepared.recipe
        X, _ = recipe.preprocessing.apply(table)
        np.testing.assert_array_equal(X, prepared.X)
        np.testing.assert_array_equal(recipe.split(table).test, prepared.rows.test)

    @pytest.mark.parametrize(
        "document", [{}, {"columns": 3}, {"columns": [{"name": "a"}], "target": {}}, {"x": 1}]
    )
    def test_a_foreign_document_is_refused(self, document):
        with pytest.raises(CheckpointError, match=r"load it with gpubp\.Trainer\.load"):
            Recipe.from_json(document)


cell = st.sampled_from(["", "0", "1", "-2.5", "7e3", "a", "b", "é x"])


@given(rows=st.lists(st.tuples(cell, cell, st.sampled_from("pq")), min_size=4, max_size=40))
def test_any_table_gives_finite_inputs_or_a_clear_refusal(rows):
    a, b, y = map(list, zip(*rows, strict=True))
    try:
        prepared = prepare(make(a=a, b=b, y=y), test=0.25)
    except InputError:
        return
    assert np.isfinite(prepared.X).all()
    assert len(prepared.X) == len(prepared.y) == len(rows)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.one_of(st.text(max_size=2), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


def places(document, path=()):
    """Yield the way to every value of a document."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


@given(data=st.data(), value=VALUES)
def test_a_recipe_of_other_values_is_refused_or_used(data, value):
    """A model's file may say anything: what comes is a refusal, or inputs and targets."""
    table = make(a=["1", "2", "3", "x"], c=["x", "y", "x", ""], y=["0", "1", "0", "1"])
    document = json.loads(json.dumps(prepare(table).recipe.to_json()))
    *way, last = data.draw(st.sampled_from(list(places(document))))
    inner = document
    for key in way:
        inner = inner[key]
    inner[last] = value
    try:
        recipe = Recipe.from_json(document)
        X, _ = recipe.preprocessing.apply(table)
        y = recipe.target.encode(table)
    except (CheckpointError, InputError):
        return
    assert X.shape == (4, recipe.preprocessing.width)
    assert np.isfinite(X).all()
    assert len(y) == 4
