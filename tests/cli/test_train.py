"""``gpubp train`` from data to files, what it says on the way, and how it goes on."""

import re
import signal
from pathlib import Path

import numpy as np
import pytest

from gpubp import checkpoint, devices, engine
from gpubp.callbacks import ProgressLine
from gpubp.epochs import Epochs
from gpubp.trainer import Trainer

from .conftest import SMALL, read

RUN = Path("gpubp-run")
BACKEND = ("--hidden", "16", "--backend", "numpy")


def _interrupt_amid(epoch, steps):
    """Return what stands for a progress line, and presses Ctrl-C after some steps of an epoch."""

    def on_progress(line, trainer, progress):
        if (progress.epoch, progress.steps_done) == (epoch, steps):
            signal.raise_signal(signal.SIGINT)

    return on_progress


def test_digits_in_whole(gpubp):
    result = gpubp("train")
    assert result.code == 0, result.err
    said = result.out
    assert said.startswith(f"device: {devices.resolve().reason}\n")
    assert "1797 rows, 65 columns" in said
    assert "'target' (by its name), classification into 10 classes: 0, 1, 2" in said
    assert "61 numeric, standardised" in said
    assert "rows: 1259 for training, 179 for validation, 359 for the test" in said
    assert "Dense(256, activation='relu'" in said
    accuracy = float(re.search(r"test: accuracy ([\d.]+), on 359 rows", said)[1])
    assert accuracy >= 0.97
    for file in ("model.safetensors", "history.csv", "curves.png"):
        assert str(RUN / file) in said
    assert "epoch 30/30" in result.err  # of 40 steps: more than 1,000
    history = read(RUN / "history.csv")
    assert [int(record["epoch"]) for record in history] == list(range(1, 31))
    assert float(history[-1]["loss"]) < 0.1 < float(history[0]["loss"])
    assert (RUN / "curves.png").read_bytes().startswith(b"\x89PNG")
    trainer = Trainer.load(RUN / "model.safetensors")
    assert trainer.epoch == 30
    again = gpubp("evaluate", RUN, "digits")
    assert f"accuracy {accuracy:.4f}, on 359 held-out rows" in again.out


def test_categories_and_missing_values_are_learned_from(gpubp, passengers):
    result = gpubp("train", passengers, "--lr", "0.01", *BACKEND)
    assert result.code == 0, result.err
    assert "'survived' (the last column), classification into 2 classes: no, yes" in result.out
    assert "1 numeric, standardised; 2 of texts, one-hot in 6 inputs" in result.out
    assert "the same in every training row: ship" in result.out
    assert "too many different texts: name" in result.out
    assert re.search(r"age: 34 missing, filled with the median \d+", result.out)
    assert float(re.search(r"accuracy ([\d.]+)", result.out)[1]) > 0.85


def test_a_regression_is_reported_in_the_unit_of_its_target(gpubp, houses):
    result = gpubp("train", houses, "--lr", "0.01", "--dropout", "0", *BACKEND)
    assert result.code == 0, result.err
    assert "'price' (the last column), regression (300 different numbers)" in result.out
    assert "target standardised for training; what is shown is in its own unit" in result.out
    rmse, r2 = re.search(r"rmse ([\d.]+), R2 ([\d.]+)", result.out).groups()
    assert 1e4 < float(rmse) < 2e5
    assert float(r2) > 0.9


@pytest.mark.parametrize("name", ["iris", "wine", "breast-cancer", "diabetes"])
def test_the_other_bundled_sets(gpubp, name):
    result = gpubp("train", name, *SMALL)
    assert result.code == 0, result.err
    assert "test: " in result.out


def test_an_npz(gpubp, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 4, 2)).astype("float32")
    np.savez(tmp_path / "d.npz", X=X, y=(X[:, 0, 0] > 0).astype("int8"))
    result = gpubp("train", "d.npz", *SMALL)
    assert result.code == 0, result.err
    assert "'y' (by its name), classification into 2 classes" in result.out
    assert "8 numeric" in result.out


@pytest.mark.parametrize(
    ("data", "loss", "said"),
    [
        ("digits", "squared_error", "regression (as the loss asks)"),
        ("diabetes", "huber", "regression"),
        ("diabetes", "poisson", "regression"),
        ("breast-cancer", "sigmoid_cross_entropy", "classification into 2 classes"),
        ("iris", "softmax_cross_entropy", "classification into 3 classes"),
    ],
)
def test_the_loss_decides(gpubp, data, loss, said):
    result = gpubp("train", data, "--loss", loss, "--lr", "1e-4", *SMALL)
    assert result.code == 0, result.err
    assert said in result.out
    assert ("accuracy" in result.out) == ("classification" in said)


def test_every_option_reaches_the_trainer(gpubp):
    result = gpubp(
        *("train", "iris", "--hidden", "7,5", "--activation", "tanh", "--dropout", "0.1"),
        *("--optimizer", "momentum", "--lr", "0.05", "--schedule", "step", "--l2", "0.001"),
        *("--clip-norm", "2", "--epochs", "2", "--batch-size", "11", "--seed", "9"),
        *("--validation-fraction", "0.2", "--test-fraction", "0.3", "--threads", "1"),
        *("--backend", "numpy", "--out", "run/deep"),
    )
    assert result.code == 0, result.err
    trainer = Trainer.load("run/deep/model.safetensors")
    assert [type(layer).__name__ for layer in trainer.network.layers] == [
        *("Dense", "Dropout", "Dense", "Dropout", "Dense")
    ]
    first, dropout, second, _, last = trainer.network.layers
    assert (first.units, second.units, last.units) == (7, 5, 3)
    assert (first.activation, dropout.rate, last.activation) == ("tanh", 0.1, "identity")
    assert (type(trainer.optimizer).__name__, trainer.optimizer.lr) == ("Momentum", 0.05)
    assert type(trainer.schedule).__name__ == "StepDecay"
    assert (trainer.seed, trainer.backend_name, trainer.threads) == (9, "numpy", 1)
    assert (trainer.regularization.l2, trainer.regularization.clip_norm) == (0.001, 2)
    assert "rows: 75 for training, 30 for validation, 45 for the test" in result.out
    assert trainer.step == 2 * 7


def test_no_hidden_layer_and_nothing_held_out(gpubp):
    options = ("--hidden", "none", "--validation-fraction", "0", "--test-fraction", "0")
    result = gpubp("train", "iris", *options, "--epochs", "2", "--backend", "numpy")
    assert result.code == 0, result.err
    assert "rows: 150 for training, 0 for validation, 0 for the test" in result.out
    assert "test: none, because no rows were held out" in result.out
    assert "on 150 rows, which it was trained on" in gpubp("evaluate", RUN, "iris").out


def test_fewer_rows_than_a_minibatch(gpubp, tmp_path):
    (tmp_path / "xor.csv").write_text("a,b,y\n0,0,0\n0,1,1\n1,0,1\n1,1,0\n")
    result = gpubp("train", "xor.csv", "--validation-fraction", "0", *SMALL)
    assert result.code == 0, result.err
    assert "rows: 4 for training" in result.out


def test_patience_ends_the_run_and_keeps_the_best(gpubp):
    result = gpubp("train", "iris", "--lr", "0.5", "--epochs", "200", "--patience", "3")
    assert result.code == 0, result.err
    trainer = Trainer.load(RUN / "model.safetensors")
    assert trainer.epoch < 200
    best = min(record["val_loss"] for record in trainer.history)
    assert trainer.epoch - 3 == next(r["epoch"] for r in trainer.history if r["val_loss"] == best)


class TestResume:
    @pytest.fixture
    def interrupt_at(self, monkeypatch):
        """Have Ctrl-C arrive when an epoch has ended but is not saved yet, or a callback fail."""
        real = ProgressLine.on_epoch_end

        def interrupt(epoch, *, broken=False):
            def on_epoch_end(line, trainer, record):
                if record["epoch"] == epoch and broken:
                    raise KeyboardInterrupt
                if record["epoch"] == epoch:
                    signal.raise_signal(signal.SIGINT)
                return real(line, trainer, record)

            monkeypatch.setattr(ProgressLine, "on_epoch_end", on_epoch_end)

        interrupt.off = lambda: monkeypatch.setattr(ProgressLine, "on_epoch_end", real)
        return interrupt

    @pytest.mark.parametrize("backend", ["numpy", "numba"])
    @pytest.mark.parametrize("options", [(), ("--patience", "2", "--lr", "0.1")])
    def test_it_ends_as_if_never_stopped(self, gpubp, passengers, interrupt_at, backend, options):
        options = (*options, "--hidden", "8", "--epochs", "6", "--backend", backend)
        assert gpubp("train", passengers, *options, "--out", "whole").code == 0
        interrupt_at(3)
        stopped = gpubp("train", passengers, *options, "--out", "parts")
        interrupt_at.off()
        assert stopped.code == 1
        assert stopped.errors[-1] == (
            "gpubp: stopped; parts/model.safetensors holds epoch 3; go on with: "
            "gpubp train --resume --out parts"
        )
        resumed = gpubp("train", "--resume", "--out", "parts")
        assert resumed.code == 0, resumed.err
        assert "epoch 1/6" not in resumed.err
        assert_equal_models("whole", "parts")
        whole, parts = (read(Path(run, "history.csv")) for run in ("whole", "parts"))
        for record in (*whole, *parts):
            del record["seconds"], record["samples_per_second"]
        assert whole == parts

    @pytest.mark.parametrize("backend", ["numpy", "numba"])
    def test_stopped_amid_an_epoch_it_keeps_the_finished_steps(
        self, gpubp, passengers, monkeypatch, backend
    ):
        options = ("--hidden", "8", "--epochs", "4", "--backend", backend)
        assert gpubp("train", passengers, *options, "--out", "whole").code == 0
        with monkeypatch.context() as patch:
            patch.setattr(engine, "_CHUNK_SECONDS", 0)  # progress is told after each step
            patch.setattr(ProgressLine, "on_progress", _interrupt_amid(epoch=3, steps=5))
            stopped = gpubp("train", passengers, *options, "--out", "parts")
        assert stopped.code == 1
        held = r"holds epoch 2 and 5 of the next epoch's \d+ steps; go on with"
        assert re.search(held, stopped.errors[-1]), stopped.errors
        resumed = gpubp("train", "--resume", "--out", "parts")
        assert resumed.code == 0, resumed.err
        assert_equal_models("whole", "parts")

    def test_stopped_before_anything_was_saved(self, gpubp, monkeypatch):
        def stop(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(Epochs, "__init__", stop)
        result = gpubp("train", "iris", *SMALL)
        assert result.code == 1
        assert result.errors[-1] == "gpubp: stopped; no step was finished yet"

    def test_a_callback_that_breaks_off_leaves_the_last_save(self, gpubp, passengers, interrupt_at):
        """The one behind it, which counts epochs without progress, was not told of the third."""
        interrupt_at(3, broken=True)
        options = ("--hidden", "8", "--epochs", "6", "--patience", "2")
        stopped = gpubp("train", passengers, *options, "--out", "parts")
        assert "parts/model.safetensors holds epoch 1; go on with" in stopped.errors[-1]

    def test_a_complete_run_is_tested_again(self, gpubp):
        first = gpubp("train", "iris", *SMALL)
        again = gpubp("train", "--resume")
        assert again.code == 0, again.err
        assert "the run was complete after epoch 3" in again.out
        assert again.out.endswith(first.out[first.out.index("test: ") :])

    def test_other_data_are_refused(self, gpubp, passengers):
        assert gpubp("train", passengers, *SMALL).code == 0
        passengers.write_text(passengers.read_text().replace("Passenger 17", "Passenger 7"))
        result = gpubp("train", "--resume")
        assert result.code == 2
        assert "does not hold the data that the run in gpubp-run began with" in result.err

    def test_other_options_are_refused(self, gpubp):
        assert gpubp("train", "iris", *SMALL).code == 0
        result = gpubp("train", "iris", "--resume", "--hidden", "9,2")
        assert result.code == 2
        assert "--hidden is 9,2, but the run in gpubp-run began with 8" in result.err
        result = gpubp("train", "wine", "--resume")
        assert result.code == 2
        assert (
            "wine does not hold the data that the run in gpubp-run began with (iris)" in result.err
        )
        assert gpubp("train", "iris", "--resume", "--epochs", "3").code == 0

    def test_nothing_to_resume(self, gpubp):
        result = gpubp("train", "--resume", "--out", "none")
        assert result.code == 2
        assert result.errors == ["gpubp: there is no model 'none'; 'gpubp train' writes one"]


def assert_equal_models(first, second):
    tensors, documents = zip(
        *(checkpoint.load(Path(run, "model.safetensors")) for run in (first, second)), strict=True
    )
    assert tensors[0].keys() == tensors[1].keys()
    columns = documents[0]["history"]["columns"]
    clock = {f"history.{columns.index(name)}" for name in ("seconds", "samples_per_second")}
    for name, tensor in tensors[0].items():
        if name in clock:
            continue
        assert tensor.tobytes() == tensors[1][name].tobytes(), name
    for key in ("epoch", "progress", "seed", "schedule_state", "history", "extra"):
        assert documents[0][key] == documents[1][key], key


class TestPrecision:
    CPU = (*SMALL, "--device", "cpu")

    @pytest.mark.parametrize("precision", ["fp64", "bf16"])
    def test_it_is_said_and_stays_that_of_the_model(self, precision, gpubp):
        said = gpubp("train", "iris", *self.CPU, "--precision", precision).out.splitlines()
        assert said[0] == f"device: cpu with numpy (as asked), in {precision}"
        assert Trainer.load(RUN / "model.safetensors").precision == precision
        for command in (("evaluate", RUN, "iris"), ("train", "--resume", *self.CPU)):
            assert gpubp(*command).out.splitlines()[0].endswith(f", in {precision}"), command
        said = gpubp("evaluate", RUN, "iris", "--precision", "fp32").out.splitlines()
        assert said[0] == "device: cpu with numpy (as it was trained)"

    def test_one_that_only_a_gpu_has(self, gpubp):
        result = gpubp("train", "iris", *self.CPU, "--precision", "tf32")
        assert (result.code, len(result.errors)) == (2, 1)
        assert "'tf32' needs device 'cuda', but this is cpu with numpy" in result.err
        assert not RUN.exists()

    def test_one_that_is_not(self, gpubp):
        result = gpubp("train", "iris", "--precision", "fp16")
        assert result.code == 2
        assert "unknown precision 'fp16'; did you mean 'fp64'?" in result.err


class TestRefusals:
    def test_an_output_folder_that_cannot_be_written(self, gpubp, tmp_path, monkeypatch):
        monkeypatch.setattr(Trainer, "fit", lambda *_, **__: pytest.fail("training began"))
        (tmp_path / "file").write_text("")
        result = gpubp("train", "iris", "--out", "file/run")
        assert result.code == 1
        assert "cannot write to the folder 'file/run': Not a directory" in result.err
        assert "choose another with --out" in result.err
        (tmp_path / "gpubp-run" / "curves.png").mkdir(parents=True)
        result = gpubp("train", "iris")
        assert result.code == 1
        assert "curves.png" in result.err
        assert len(result.errors) <= 2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["digit"], "there is no file 'digit'; did you mean 'digits'?"),
            (["none.csv"], "there is no file 'none.csv'"),
            (["--target", "survive"], "has no column 'survive'; did you mean 'survived'?"),
            (["--target", "ship"], "the target, column 'ship', is Titanic in every row"),
            (["--target", "name"], "column 'name' has 300 different values in 300 rows"),
            (["--loss", "huber"], "column 'survived' has 'yes' at line 2"),
            (["--activation", "rleu"], "unknown activation 'rleu'; did you mean 'relu'?"),
            (["--optimizer", "adm"], "unknown optimizer 'adm'; did you mean 'adam'?"),
            (["--schedule", "cosin"], "unknown schedule 'cosin'; did you mean 'cosine'?"),
            (["--loss", "hubber"], "unknown loss 'hubber'; did you mean 'huber'?"),
            (["--hidden", "12,x"], "'12,x' is not a list of widths"),
            (["--hidden", "0"], "'0' is not a list of widths"),
            (["--epochs", "0"], "0 is not in the range"),
            (["--batch-size", "0"], "0 is not in the range"),
            (["--dropout", "1"], "1.0 is not in the range"),
            (["--lr", "nan"], "lr"),
            (["--test-fraction", "0.95"], "below 1 together"),
            (["--backend", "numbe"], "unknown backend 'numbe'; did you mean 'numba'?"),
            (["--device", "gpu"], "unknown device 'gpu'"),
            (["--epoch", "3", "--nonsense"], "No such option"),
        ],
    )
    def test_wrong_use(self, gpubp, passengers, arguments, message):
        if not arguments[0].startswith("--"):
            result = gpubp("train", *arguments)
        else:
            result = gpubp("train", passengers, *arguments)
        assert result.code == 2
        assert message in result.err
        assert len(result.errors) <= 2
        assert not RUN.exists() or not list(RUN.iterdir())

    def test_a_device_that_is_not_there(self, gpubp):
        result = gpubp("train", "--device", "cuda:99")
        assert result.code == 1
        assert "device 'cuda:99' can't be had" in result.err

    def test_sigmoid_cross_entropy_is_for_two_classes(self, gpubp):
        result = gpubp("train", "iris", "--loss", "sigmoid_cross_entropy")
        assert result.code == 2
        assert "is for two classes, but iris has 3; use softmax_cross_entropy" in result.err

    def test_a_loss_that_is_not_finite(self, gpubp):
        result = gpubp("train", "diabetes", "--optimizer", "sgd", "--lr", "1e30", *SMALL)
        assert result.code == 1
        assert "epoch 1" in result.err
