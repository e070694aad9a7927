"""What the script's modules promise each other, one by one."""

import json
import time

import numpy as np
import pytest
from gpu import cases, figures, oracle
from gpu.document import RESULTS, Document, RefusedError
from gpu.process import OutOfTimeError, ProcessError, Worker

import gpubp
from gpubp.losses import SquaredError
from gpubp.optimizers import Adam

GPU = {"gpu": {"name": "NVIDIA H200"}, "problem": ""}
CASE = cases.CASES["tabular"]


def contender(group, median, **more):
    return {"group": group, "right": True, "seconds": {"wall": figures.spread([median] * 3)}} | more


class TestVerdict:
    def test_compares_with_the_fastest_of_a_group_that_is_right(self):
        records = {
            "gpubp": contender("ours", 30e-6),
            "slow": contender("peer", 90e-6),
            "fast": contender("peer", 60e-6),
            "wrong": contender("peer", 1e-6, right=False),
            "absent": {"group": "peer", "missing": "torch"},
            "broken": {"group": "peer", "error": "no"},
        }
        found = figures.verdict(CASE, records)
        assert found["peers"]["peer"]["best"] == "fast"
        assert found["peers"]["peer"]["ratio"] == pytest.approx(0.5)
        assert found["met"]

    @pytest.mark.parametrize(
        ("ours", "peer", "met"),
        [(39e-6, 60e-6, True), (41e-6, 90e-6, False), (39e-6, 45e-6, False)],
    )
    def test_is_met_where_time_and_ratio_are(self, ours, peer, met):
        records = {"gpubp": contender("ours", ours), "peer": contender("peer", peer)}
        assert figures.verdict(CASE, records)["met"] is met

    def test_is_not_met_by_what_computes_something_else(self):
        assert not figures.verdict(CASE, {"gpubp": contender("ours", 1e-6, right=False)})["met"]

    def test_of_an_epoch_has_two_groups(self):
        records = {
            "gpubp": contender("ours", 8e-3),
            "loader": contender("DataLoader", 1.0),
            "loop": contender("graph loop", 9e-3),
        }
        found = figures.verdict(cases.EPOCH, records)
        assert found["peers"]["DataLoader"]["reached"]
        assert not found["peers"]["graph loop"]["reached"]
        assert not found["met"]


def test_spread_holds_the_median_and_narrows_with_rounds():
    rng = np.random.default_rng(0)
    few, many = (figures.spread(list(rng.normal(5, 1, count))) for count in (10, 1000))
    for found in (few, many):
        assert found["low"] <= found["median"] <= found["high"]
    assert many["high"] - many["low"] < (few["high"] - few["low"]) / 3


class TestDocument:
    def test_keeps_what_is_there_and_adds_to_it(self, tmp_path):
        path = tmp_path / "out.json"
        for number, name in enumerate(("a", "b")):
            document = Document(path, stand_in=False)
            document.enter(GPU)
            document.add(name, {"status": "done", "result": {"number": number}})
        content = json.loads(path.read_text())
        assert content["machines"] == [GPU]
        assert {n: part["result"]["number"] for n, part in content["parts"].items()} == {
            "a": 0,
            "b": 1,
        }
        assert [file.name for file in tmp_path.iterdir()] == ["out.json"]

    def test_knows_the_results_of_parts_that_are_done(self, tmp_path):
        document = Document(tmp_path / "out.json", stand_in=False)
        document.enter(GPU)
        document.add("bad", {"status": "failed", "error": "no", "result": {}})
        assert document.known("bad") is None
        assert document.known("never") is None

    def test_refuses_results_of_another_gpu(self, tmp_path):
        document = Document(tmp_path / "out.json", stand_in=False)
        document.enter(GPU)
        with pytest.raises(RefusedError, match=r"H200.*L4"):
            document.enter({"gpu": {"name": "NVIDIA L4"}})

    def test_refuses_a_stand_in_among_the_results(self, tmp_path):
        with pytest.raises(RefusedError, match="no result"):
            Document(RESULTS / "gpu" / "x.json", stand_in=True)
        (tmp_path / "link").symlink_to(RESULTS)
        with pytest.raises(RefusedError, match="no result"):
            Document(tmp_path / "link" / "x.json", stand_in=True)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "other"}'])
    def test_refuses_a_file_of_another_kind(self, tmp_path, text):
        path = tmp_path / "out.json"
        path.write_text(text)
        with pytest.raises(RefusedError, match="no result of this script"):
            Document(path, stand_in=False)

    def test_never_mixes_a_stand_in_with_a_gpu(self, tmp_path):
        path = tmp_path / "out.json"
        document = Document(path, stand_in=True)
        document.enter({"gpu": {"name": "stand-in"}})
        document.add("a", {"status": "done", "result": {}})
        with pytest.raises(RefusedError, match="of a stand-in"):
            Document(path, stand_in=False)


class TestOracle:
    """Against gpubp on NumPy in float64, which shares nothing with it."""

    @pytest.mark.parametrize("name", ["tabular", "mnist", "epoch"])
    def test_losses(self, name):
        case = cases.find(name, tiny=True)
        *hidden, outputs = case.sizes[1:]
        loss = SquaredError(half=False) if case.loss == "squared_error" else case.loss
        trainer = gpubp.Trainer(
            gpubp.Sequential(*(gpubp.Dense(n, "relu") for n in hidden), gpubp.Dense(outputs)),
            loss, Adam(lr=case.rate), backend="numpy", precision="fp64",
        )  # fmt: skip
        trainer.initialize(case.sizes[0])
        for number, (weight, bias) in enumerate(case.layers(), start=1):
            trainer.set_named_parameters({f"W{number}": weight, f"b{number}": bias})
        if case.unit == "step":
            x, y = case.data(case.batch, seed=1)
            history = trainer.fit(x, y, case.checked, case.batch, shuffle=False)
            found = [record["loss"] for record in history]
        else:
            x, y = case.data(case.rows, seed=1)
            validation = case.data(case.validation_rows, seed=3)
            trainer.fit(x, y, 1, case.batch, shuffle=False, validation_data=validation)
            found = [trainer.history[0][key] for key in ("loss", "val_loss")]
        np.testing.assert_allclose(oracle.losses(case), found, rtol=1e-12)


class TestWorker:
    SOON = 30.0

    def test_returns_what_a_method_returns(self):
        with Worker("fractions:Fraction", time.monotonic() + self.SOON, numerator=3) as worker:
            assert worker.call("__str__") == "3"

    @pytest.mark.parametrize(
        ("factory", "words"),
        [("no_such_module:X", "no_such_module"), ("fractions:Fraction", "has no attribute 'no'")],
    )
    def test_raises_what_went_wrong(self, factory, words):
        with (
            Worker(factory, time.monotonic() + self.SOON) as worker,
            pytest.raises(ProcessError, match=words),
        ):
            worker.call("no")

    def test_says_the_last_words_of_a_process_that_died(self):
        dying = {"args": "echo these were them >&2; kill $PPID; sleep 1", "shell": True}
        with (
            Worker("subprocess:Popen", time.monotonic() + self.SOON, **dying) as worker,
            pytest.raises(ProcessError, match=r"the process died\nthese were them"),
        ):
            worker.call("wait")

    def test_is_out_of_time_at_the_deadline(self):
        with (
            Worker("threading:Event", time.monotonic() + 1) as worker,
            pytest.raises(OutOfTimeError),
        ):
            worker.call("wait")
