"""What a run says at its end: in which unit, of which epoch, and beside what."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from gpubp import devices
from gpubp.callbacks import Progress, Run
from gpubp.cli import model
from gpubp.cli.options import Options, settle
from gpubp.cli.units import Line, Table, Units
from gpubp.data.prepare import prepare
from gpubp.data.table import load
from gpubp.losses import LOSSES
from gpubp.trainer import Trainer

from .conftest import SMALL, read

RUN = Path("gpubp-run")


def rows_of(table, target):
    """The truth in its own unit, and the split, found apart from the command."""
    prepared = prepare(load(str(table)), target=target, validation=0.1, test=0.2, seed=0)
    scale, mean = prepared.recipe.target.scale, prepared.recipe.target.mean
    return prepared.X, prepared.y.astype(np.float64) * scale + mean, prepared.rows


def test_a_regression_is_in_the_unit_of_its_target_everywhere(gpubp, houses):
    result = gpubp("train", houses, *SMALL)
    assert result.code == 0, result.err
    X, price, rows = rows_of(houses, "price")
    trainer = Trainer.load(RUN / "model.safetensors")
    target = trainer.extra["recipe"]["target"]
    answers = trainer.predict(X).astype(np.float64) * target["scale"] + target["mean"]
    errors = (answers - price) ** 2
    record = read(RUN / "history.csv")[trainer.extra["kept"] - 1]
    assert float(record["val_rmse"]) == pytest.approx(errors[rows.validation].mean() ** 0.5)
    assert float(record["val_loss"]) == pytest.approx(errors[rows.validation].mean() / 2)
    assert f"val_rmse {float(record['val_rmse']):.4g}" in result.err
    mean = price[rows.train].mean()
    constant = ((price[rows.test] - mean) ** 2).mean() ** 0.5
    assert result.out.splitlines()[-1] == (
        f"test: rmse {errors[rows.test].mean() ** 0.5:.6g}, "
        f"R2 {float(re.search(r'R2 ([-.0-9]+)', result.out)[1]):.4f}, on 60 rows that training has "
        f"not seen; always answering the mean, {mean:.6g}, would have rmse {constant:.6g}"
    )


def test_a_classifier_is_compared_with_the_most_frequent_class(gpubp, passengers):
    result = gpubp("train", passengers, *SMALL)
    prepared = prepare(load(str(passengers)), target="survived", validation=0.1, test=0.2, seed=0)
    seen, truth = prepared.y[prepared.rows.train], prepared.y[prepared.rows.test]
    frequent = max((0, 1), key=lambda index: (seen == index).sum())
    assert result.out.splitlines()[-1].endswith(
        f"always answering the most frequent class, {['no', 'yes'][frequent]}, would be right in "
        f"{(truth == frequent).mean():.4f}"
    )


@pytest.mark.parametrize(
    ("loss", "power"),
    [("squared_error", 2), ("huber", 2), ("absolute_error", 1), ("quantile", 1), ("poisson", 0)],
)
def test_losses_grow_with_the_unit(loss, power):
    """Against the reference: of errors ten times as large, the loss is 10^power times as large."""
    made = LOSSES.get("huber", threshold=1.0) if loss == "huber" else LOSSES.get(loss)
    units = Units.of(made, 10.0)
    assert units.loss(3.0) == 3.0 * 10.0**power
    record = {"epoch": 2, "loss": 3.0, "val_loss": 2.0, "rmse": 1.0, "val_rmse": 4.0, "r2": 0.5}
    assert units.record(record) == {
        "epoch": 2, "loss": 3.0 * 10**power, "val_loss": 2.0 * 10**power,
        "rmse": 10.0, "val_rmse": 40.0, "r2": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--keep", "best"), "kept: epoch {best} of 12, the best by validation loss"),
        (
            (),
            "kept: epoch 12 of 12, the last, because 15 validation rows are too few to choose by "
            "(--keep best)",
        ),
        (
            ("--validation-fraction", "0", "--patience", "20"),
            "kept: epoch {best} of 12, the best by training loss",
        ),
        (
            ("--validation-fraction", "0.2"),
            "kept: epoch {best} of 12, the best by validation loss",
        ),
        (("--keep", "last"), "kept: epoch 12 of 12, the last, as asked"),
        (
            ("--validation-fraction", "0"),
            "kept: epoch 12 of 12, the last, because no rows were held out to choose by",
        ),
    ],
)
def test_which_epoch_is_kept(gpubp, options, said):
    rates = ("--lr", "1", "--schedule", "constant")
    options = ("iris", "--hidden", "8", "--epochs", "12", *rates, *options)
    result = gpubp("train", *options, "--backend", "numpy")
    trainer = Trainer.load(RUN / "model.safetensors")
    watched = "val_loss" in trainer.history.names
    name = "val_loss" if watched else "loss"
    best = int(trainer.history.column(name).argmin()) + 1
    assert "warning" not in result.err
    assert best < 12, "the best should not be the last"
    assert said.format(best=best) in result.out
    if watched:
        fraction = 0.2 if "0.2" in options else 0.1
        prepared = prepare(load("iris"), validation=fraction, test=0.2, seed=0)
        rows = prepared.rows.validation
        loss = trainer.evaluate(prepared.X[rows], prepared.y[rows])["loss"]
        kept = trainer.extra["kept"]
        assert loss == pytest.approx(trainer.history.column("val_loss")[kept - 1], rel=1e-6)


def test_the_picture_rings_the_epoch_that_is_kept(gpubp, monkeypatch):
    labels = []
    real = Figure.savefig

    def spy(figure, *arguments, **options):
        for axes in figure.axes:
            labels.extend(line.get_label() for line in axes.get_lines() if line.get_marker() == "o")
        return real(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", spy)
    options = ("--hidden", "8", "--epochs", "12", "--lr", "0.5", "--keep", "best")
    gpubp("train", "iris", *options, "--backend", "numpy")
    trainer = Trainer.load(RUN / "model.safetensors")
    kept = trainer.extra["kept"]
    expected = [
        f"kept: {trainer.history.column(name)[kept - 1]:.4g} at epoch {kept}"
        for name in ("val_loss", "val_accuracy")
    ]
    assert labels == expected


def test_a_picture_that_cannot_be_drawn_costs_no_run(gpubp, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no\nfonts")

    monkeypatch.setattr(Figure, "savefig", fail)
    result = gpubp("train", "iris", *SMALL)
    assert result.code == 0
    assert "gpubp: warning: the curves can't be drawn (RuntimeError: no fonts)" in result.err
    assert "curves:" not in result.out
    assert result.out.splitlines()[-1].startswith("test: accuracy")


class TestAdvice:
    """Why no GPU is used is said once on a machine; what was asked for is said each time."""

    @pytest.fixture
    def driver(self, monkeypatch):
        monkeypatch.setattr(devices, "cuda_problem", lambda *_: "there is no driver; install one")

    def test_once(self, gpubp, driver, monkeypatch):
        options = ("--hidden", "8", "--epochs", "2", "--threads", "1", "--gemm", "tiles")
        first = gpubp("train", "iris", *options).out.splitlines()[0]
        assert first == "device: cpu with numba (not cuda, because there is no driver; install one)"
        second = gpubp("train", "iris", *options, "--overwrite").out.splitlines()[0]
        assert second == "device: cpu with numba"
        monkeypatch.setattr(devices, "cuda_problem", lambda *_: "it is too old; install a newer")
        third = gpubp("train", "iris", *options, "--overwrite").out.splitlines()[0]
        assert third.endswith("(not cuda, because it is too old; install a newer)")

    def test_what_was_asked_for(self, gpubp, driver):
        for _ in range(2):
            said = gpubp("train", "iris", *SMALL, "--overwrite").out.splitlines()[0]
            assert said == "device: cpu with numpy (as asked)"

    def test_where_nothing_can_be_kept(self, gpubp, driver, monkeypatch):
        monkeypatch.setattr(model, "_said", lambda: Path("/proc/none/advice"))
        options = ("--hidden", "8", "--epochs", "2", "--threads", "1", "--gemm", "tiles")
        for _ in range(2):
            result = gpubp("train", "iris", *options, "--overwrite")
            assert result.code == 0
            assert "(not cuda, because there is no driver" in result.out


class TestDefaults:
    @staticmethod
    def settled(table, **given):
        values = dict.fromkeys(Options.__dataclass_fields__)
        values |= {"data": table, "hidden": (8,), "optimizer": "adam", "batch_size": 32, **given}
        prepared = prepare(load(str(table)), validation=0.1, test=0.2, seed=0)
        return settle(Options(**values), prepared)

    def test_of_classes(self):
        options = self.settled("iris")  # 105 rows: 4 steps an epoch
        assert (options.loss, options.epochs) == ("softmax_cross_entropy", 250)
        assert (options.dropout, options.l2) == (0.2, 10 / 105)

    def test_of_values(self):
        options = self.settled("diabetes")  # 310 rows
        assert (options.loss, options.epochs, options.dropout) == ("squared_error", 100, 0)
        assert options.l2 == 10 / 310

    def test_of_a_large_table(self):
        assert self.settled("digits", batch_size=8).epochs == 30  # 1259 rows: 4710 steps

    def test_the_penalty_of_few_rows_is_bounded(self, tmp_path):
        lines = [f"{i},{i * 7 % 10 / 3}" for i in range(40)]
        (tmp_path / "d.csv").write_text("\n".join(["a,y", *lines]))
        assert self.settled("d.csv").l2 == 0.1

    def test_what_is_given_stays(self):
        options = self.settled("diabetes", epochs=7, dropout=0.5, lr=0.1, loss="huber", l2=0.0)
        assert (options.epochs, options.dropout, options.lr, options.l2) == (7, 0.5, 0.1, 0)
        assert options.loss == "huber"

    @pytest.mark.parametrize(("optimizer", "lr"), [("adam", 0.003), ("sgd", None)])
    def test_of_the_optimizer(self, optimizer, lr):
        assert self.settled("iris", optimizer=optimizer).lr == lr


class TestLines:
    @staticmethod
    def written(epochs, terminal=False):
        """The epochs of which a line is written in a run of so many."""
        out = io.StringIO()
        out.isatty = lambda: terminal
        line = Line(Units(10.0, 2))
        line._file = out
        trainer = type("Model", (), {"epoch": 0})()
        line.on_fit_start(trainer, Run(0, epochs, 4, 8, 32))
        for epoch in range(1, epochs + 1):
            line.on_progress(trainer, Progress(epoch, 4, 4, 0.5))
            line.on_epoch_end(
                trainer,
                {"epoch": epoch, "step": 4 * epoch, "loss": 0.5, "lr": 0.1, "rmse": 2.0,
                 "seconds": 1.0, "samples_per_second": 32.0},
            )  # fmt: skip
        line.close()
        return out.getvalue()

    def test_a_long_run_has_some_fifty_lines_with_the_first_and_the_last(self):
        found = [int(n) for n in re.findall(r"epoch +(\d+)/", self.written(3000))]
        assert found == [1, *range(60, 3001, 60)]
        assert len(re.findall("epoch", self.written(50))) == 50

    def test_in_the_unit(self):
        assert "loss 50  rmse 20  " in self.written(1)
        assert "loss 50 rmse 20" in self.written(1, terminal=True)


def test_the_history_file_is_in_the_unit(tmp_path):
    trainer = type("Model", (), {})()
    trainer.history = Units(1.0, 0).history([{"epoch": 1, "loss": 0.5, "rmse": 2.0}])
    table = Table(tmp_path / "history.csv", Units(10.0, 2))
    table.on_fit_end(trainer)
    assert read(tmp_path / "history.csv") == [{"epoch": "1", "loss": "50.0", "rmse": "20.0"}]
