"""``gpubp predict``, ``evaluate`` and ``explain`` on models that ``gpubp train`` wrote."""

from pathlib import Path

import numpy as np
import pytest

import gpubp as library
from gpubp.data.table import load

from .conftest import SMALL, read, write


@pytest.fixture
def classifier(gpubp, passengers):
    assert gpubp("train", passengers, *SMALL, "--out", "run").code == 0
    return Path("run")


@pytest.fixture
def regressor(gpubp, houses):
    assert gpubp("train", houses, *SMALL, "--out", "run").code == 0
    return Path("run")


class TestPredict:
    def test_classes_with_their_probabilities(self, gpubp, classifier, passengers):
        result = gpubp("predict", classifier, passengers, "--out", "answers.csv")
        assert result.code == 0, result.err
        assert "predictions: answers.csv, 300 rows" in result.out
        answers = read(Path("answers.csv"))
        assert list(answers[0]) == ["survived", "p(no)", "p(yes)"]
        for answer in answers:
            no, yes = float(answer["p(no)"]), float(answer["p(yes)"])
            assert no + yes == pytest.approx(1, abs=1e-6)
            assert answer["survived"] == ("yes" if yes > no else "no")

    def test_it_agrees_with_evaluate(self, gpubp, classifier, passengers):
        rows = read(passengers)[:100]
        part = write(Path("part.csv"), rows)
        assert gpubp("predict", classifier, part).code == 0
        answers = [answer["survived"] for answer in read(Path("predictions.csv"))]
        right = np.mean(
            [answer == row["survived"] for answer, row in zip(answers, rows, strict=True)]
        )
        assert f"accuracy {right:.4f}, on 100 rows" in gpubp("evaluate", classifier, part).out

    def test_the_target_and_unused_columns_are_not_needed(self, gpubp, classifier, passengers):
        assert gpubp("predict", classifier, passengers, "--out", "with.csv").code == 0
        rows = [{key: row[key] for key in ("deck", "sex", "age")} for row in read(passengers)]
        bare = write(Path("bare.csv"), rows)
        assert (
            gpubp("predict", classifier / "model.safetensors", bare, "--out", "bare.out").code == 0
        )
        assert Path("bare.out").read_text() == Path("with.csv").read_text()

    def test_unknown_categories_are_said(self, gpubp, classifier, passengers):
        rows = read(passengers)
        rows[3]["deck"] = rows[4]["deck"] = "Z"
        result = gpubp("predict", classifier, write(Path("new.csv"), rows))
        assert "deck: 2 unknown ('Z'), taken for none of its values" in result.out

    def test_values_in_the_unit_of_the_target(self, gpubp, regressor, houses):
        assert gpubp("predict", regressor, houses).code == 0
        prices = np.array([float(row["price"]) for row in read(Path("predictions.csv"))])
        assert 1e5 < prices.mean() < 1e6

    def test_two_classes_on_one_output(self, gpubp):
        loss = ("--loss", "sigmoid_cross_entropy")
        assert gpubp("train", "breast-cancer", *loss, *SMALL).code == 0
        assert gpubp("predict", "gpubp-run", "breast-cancer").code == 0
        answers, truth = read(Path("predictions.csv")), load("breast-cancer").texts("target")
        for answer in answers:
            benign, malignant = float(answer["p(benign)"]), float(answer["p(malignant)"])
            assert benign + malignant == pytest.approx(1, abs=1e-6)
            assert (answer["target"] == "malignant") == (malignant > benign)
        assert np.mean([answer["target"] for answer in answers] == truth) > 0.8

    def test_what_is_read_is_not_overwritten(self, gpubp, classifier, passengers):
        for victim in (passengers, classifier / "model.safetensors"):
            before = victim.read_bytes()
            result = gpubp("predict", classifier / "model.safetensors", passengers, "--out", victim)
            assert result.code == 2
            assert "would overwrite what is read from it" in result.err
            assert victim.read_bytes() == before

    def test_a_column_that_is_not_there(self, gpubp, classifier, passengers):
        rows = [
            {key.replace("sex", "gender"): v for key, v in row.items()} for row in read(passengers)
        ]
        result = gpubp("predict", classifier, write(Path("new.csv"), rows))
        assert result.code == 2
        assert "new.csv has no column 'sex'" in result.err
        assert not Path("predictions.csv").exists()

    def test_a_place_that_cannot_be_written(self, gpubp, classifier, passengers):
        result = gpubp("predict", classifier, passengers, "--out", "none/p.csv")
        assert result.code == 1
        assert "p.csv" in result.err
        assert len(result.errors) == 1


class TestEvaluate:
    def test_a_regression(self, gpubp, regressor, houses):
        result = gpubp("evaluate", regressor, houses)
        assert "rmse " in result.out
        assert "on 60 held-out rows of the data that it was trained on" in result.out

    def test_rows_without_a_target_are_left_out(self, gpubp, classifier, passengers):
        rows = read(passengers)[:50]
        rows[0]["survived"] = rows[9]["survived"] = ""
        result = gpubp("evaluate", classifier, write(Path("part.csv"), rows))
        assert "left out 2 rows without a value in 'survived'" in result.out
        assert "on 48 rows" in result.out

    def test_a_class_that_is_unknown(self, gpubp, classifier, passengers):
        rows = read(passengers)[:50]
        rows[7]["survived"] = "perhaps"
        result = gpubp("evaluate", classifier, write(Path("part.csv"), rows))
        assert result.code == 2
        assert "'survived' has 'perhaps' at line 9, a class" in result.err

    def test_no_target(self, gpubp, classifier, passengers):
        rows = [{key: row[key] for key in ("deck", "sex", "age")} for row in read(passengers)]
        result = gpubp("evaluate", classifier, write(Path("bare.csv"), rows))
        assert result.code == 2
        assert "bare.csv has no column 'survived'" in result.err


class TestExplain:
    def test_it_prints_the_plan(self, gpubp, classifier):
        result = gpubp("explain", classifier, "--batch-size", "7")
        assert result.code == 0, result.err
        for word in ("7 rows", "forward", "backward", "update", "matmul", "adam"):
            assert word in result.out


class TestModelFiles:
    @pytest.mark.parametrize("command", ["predict", "evaluate", "explain"])
    def test_one_that_is_not_there(self, gpubp, command):
        data = () if command == "explain" else ("iris",)
        result = gpubp(command, "gpubp-rum", *data)
        assert result.code == 2
        assert result.errors == ["gpubp: there is no model 'gpubp-rum'; 'gpubp train' writes one"]

    @pytest.mark.parametrize("damage", ["cut", "foreign", "empty"])
    def test_one_that_is_damaged(self, gpubp, classifier, passengers, damage):
        file = classifier / "model.safetensors"
        content = file.read_bytes()
        file.write_bytes({"cut": content[:-100], "foreign": b"no model", "empty": b""}[damage])
        result = gpubp("evaluate", classifier, passengers)
        assert result.code == 1
        assert len(result.errors) <= 2

    def test_one_of_the_library(self, gpubp, tmp_path):
        trainer = library.Trainer(library.Sequential(library.Dense(2)), backend="numpy")
        trainer.fit(np.eye(4, dtype="float32"), np.array([0, 1, 0, 1]), batch_size=4)
        trainer.save(tmp_path / "own.safetensors")
        result = gpubp("evaluate", "own.safetensors", "iris")
        assert result.code == 1
        assert "load it with gpubp.Trainer.load" in result.err
