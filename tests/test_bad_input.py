"""Bad input is refused before anything is computed: what was wrong, the value, what to do."""

import re

import numpy as np
import pytest
from networks import data, make

from gpubp import Activation, Dense, Dropout, Sequential, Trainer, engine, files
from gpubp.callbacks import Callback, Checkpoint, HistoryCSV
from gpubp.errors import (
    CheckpointError,
    DeviceError,
    DeviceMemoryError,
    GpubpError,
    InputError,
    SaveError,
)
from gpubp.initializers import INITIALIZERS
from gpubp.losses import LOSSES, Huber
from gpubp.optimizers import SGD, Adam
from gpubp.schedules import SCHEDULES

X, y = data()  # (37, 5) float32 and labels 0 to 2
NETWORK = Sequential(Dense(4, "relu"), Dense(3))


def trainer(loss="softmax_cross_entropy", **settings):
    return Trainer(NETWORK, loss=loss, **{"backend": "numpy"} | settings)


def refused(*words, error=InputError):
    """Expect an error with these words in this order."""
    return pytest.raises(error, match=".*".join(map(re.escape, words)))


def changed(array, index, value):
    other = array.copy()
    other[index] = value
    return other


FEATURES = {
    "one axis": (X[:, 0], ("X has shape (37,)", "two dimensions", "reshape(-1, 1)")),
    "three axes": (X.reshape(37, 5, 1), ("X has shape (37, 5, 1)", "two dimensions")),
    "no rows": (X[:0], ("X has shape (0, 5)", "needs a row at least")),
    "no columns": (X[:, :0], ("X has shape (37, 0)", "needs a column at least")),
    "NaN": (changed(X, (3, 2), np.nan), ("X has nan at row 3, column 2", "drop or fill")),
    "infinity": (changed(X, (36, 4), -np.inf), ("X has -inf at row 36, column 4",)),
    "text": (X.astype(str), ("X has dtype",)),
    "objects": (X.astype(object), ("X has dtype object", "astype('float32')")),
    "complex": (X.astype(np.complex64), ("X has dtype complex64", "X.real")),
    "half": (X.astype(np.float16), ("X has dtype float16", "astype('float32')")),
    "a list": (X.tolist(), ("X is a list", "np.asarray(X)")),
}


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_features(name, backend):
    bad, words = FEATURES[name]
    model = trainer(backend=backend)
    with refused(*words):
        model.fit(bad, y)
    assert model.features is None, "nothing may come of a refused call"
    model.fit(X, y)
    before = model.parameters()
    for use in (model.predict, model.predict_proba, model.forward):
        with refused(*words):
            use(bad)
    with refused(*words):
        model.evaluate(bad, y)
    with refused(*words):
        model.fit(X, y, validation_data=(bad, y))
    np.testing.assert_array_equal(model.parameters(), before)


LABELS = {
    "too few": (y[:-1], ("y has 36 rows, but the data has 37",)),
    "too large": (changed(y, 5, 3), ("y has 3 at row 5", "with 3 classes", "0 to 2")),
    "negative": (changed(y, 7, -1), ("y has -1 at row 7", "start at 0")),
    "one class": (np.ones_like(y), ("y holds the single class 1", "two at least")),
    "fractions": (y + 0.5, ("y has dtype float64", "integers", "'squared_error'")),
    "text": (np.array(["a", "b"])[y % 2], ("y has dtype", "return_inverse")),
    "missing": (np.full(37, None), ("y has dtype object",)),
    "two columns": (np.zeros((37, 2)), ("y has 2 columns", "output has 3")),
    "NaN in a distribution": (
        changed(np.eye(3)[y], (4, 1), np.nan), ("y has nan at row 4, column 1",),
    ),
    "a negative chance": (changed(np.eye(3)[y], (4, 1), -0.5), ("from -0.5 to 1", "'softmax_")),
    "none": (y[:0], ("y has shape (0,)", "needs a row")),
    "a list": (y.tolist(), ("y is a list", "np.asarray(y)")),
}  # fmt: skip


@pytest.mark.parametrize("name", LABELS)
def test_labels(name):
    bad, words = LABELS[name]
    with refused(*words):
        trainer().fit(X, bad)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", ["X", "y", "sample_weight"])
def test_arrays_of_a_gpu_on_the_cpu(name, backend):
    there = type("ndarray", (), {"__module__": "cupy", "__cuda_array_interface__": {}})()
    given = {"X": X, "y": y, "sample_weight": np.ones(37)} | {name: there}
    words = f"{name} is a cupy array on a GPU", "device='cuda'", f"cupy.asnumpy({name})"
    model = trainer(backend=backend)
    with refused(*words):
        model.fit(**given)
    model.fit(X, y)
    with refused(*words):
        model.evaluate(**given)
    if name == "X":
        with refused(*words):
            model.predict(there)


def test_labels_of_one_class_may_be_evaluated():
    model = trainer()
    model.fit(X, y)
    model.evaluate(X, np.ones_like(y))


T = data("squared_error")[1]
TARGETS = {
    "NaN": ("squared_error", changed(T, (8, 1), np.nan), ("y has nan at row 8, column 1",)),
    "infinity": ("huber", changed(T, (8, 1), np.inf), ("y has inf at row 8, column 1",)),
    "all missing": ("squared_error", np.full(T.shape, np.nan), ("y has nan at row 0, column 0",)),
    "columns": ("squared_error", T[:, :2], ("y has 2 columns", "output has 3")),
    "a vector": ("squared_error", T[:, 0], ("y has 1 columns", "output has 3")),
    "rows": ("squared_error", T[:30], ("y has 30 rows, but the data has 37",)),
    "three axes": ("squared_error", T[:, :, None], ("y has shape (37, 3, 1)",)),
    "negative counts": ("poisson", -np.abs(T), ("y has values from", "'poisson'", "0 and inf")),
    "beyond 1": ("sigmoid_cross_entropy", 2 + 0 * T, ("from 2 to 2", "between 0 and 1")),
    "one class": ("sigmoid_cross_entropy", 0 * T, ("y is 0 everywhere", "two classes")),
    "text": ("squared_error", T.astype(str), ("y has dtype",)),
}


@pytest.mark.parametrize("name", TARGETS)
def test_targets(name):
    loss, bad, words = TARGETS[name]
    with refused(*words):
        trainer(loss).fit(X, bad)


WEIGHTS = {
    "rows": (np.ones(36), ("sample_weight has 36 rows, but the data has 37",)),
    "negative": (changed(np.ones(37), 3, -2), ("sample_weight has -2.0 at row 3", "negative")),
    "NaN": (changed(np.ones(37), 3, np.nan), ("sample_weight has nan at row 3",)),
    "all 0": (np.zeros(37), ("sample_weight is 0 in every row",)),
    "axes": (np.ones((37, 1)), ("sample_weight has shape (37, 1)", "one dimension")),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_sample_weights(name):
    bad, words = WEIGHTS[name]
    with refused(*words):
        trainer().fit(X, y, sample_weight=bad)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, ("batch_size must be a whole number, 1 at least, got 0",)),
        ({"batch_size": -3}, ("batch_size must be", "got -3")),
        ({"batch_size": 38}, ("batch_size is 38, but there are 37 rows", "use at most 37")),
        ({"batch_size": 8.0}, ("batch_size must be a whole number", "got 8.0")),
        ({"batch_size": True}, ("batch_size must be a whole number", "got True")),
        ({"batch_size": 37, "validation_fraction": 0.2}, ("there are 30 rows", "at most 30")),
        ({"epochs": 0}, ("epochs must be a whole number, 1 at least, got 0",)),
        ({"epochs": 1.5}, ("epochs must be", "got 1.5")),
        ({"validation_fraction": 1.0}, ("validation_fraction must be", "below 1, got 1.0")),
        ({"validation_fraction": -0.1}, ("validation_fraction must be", "got -0.1")),
        ({"validation_fraction": 0.01}, ("validation_fraction=0.01 of 37 rows is 0",)),
        (
            {"validation_fraction": 0.5, "validation_data": (X, y)},
            ("validation_data or validation_fraction, not both",),
        ),
        ({"validation_data": (X[:, :4], y)}, ("X has 4 columns, but the network takes 5",)),
        ({"validation_data": (X, y[:5])}, ("y has 5 rows",)),
        ({"resume": True}, ("no run to resume",)),
        ({"callbacks": [3]}, ("callback 3 is neither",)),
    ],
)
def test_options_of_fit(options, words):
    with refused(*words):
        trainer().fit(X, y, **options)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Dense(3, "rellu"), ("unknown activation 'rellu'", "did you mean 'relu'?")),
        (lambda: Activation("sigmoyd"), ("unknown activation", "'sigmoid'?")),
        (lambda: trainer(optimizer="adan"), ("unknown optimizer 'adan'", "'adam'?")),
        (lambda: trainer("huberr"), ("unknown loss 'huberr'", "'huber'?")),
        # What other libraries call it.
        (lambda: Dense(3, None), ("unknown activation None", "did you mean 'identity'?")),
        (lambda: Dense(3, "ReLU"), ("unknown activation 'ReLU'", "did you mean 'relu'?")),
        (lambda: Dense(3, "swish"), ("unknown activation 'swish'", "did you mean 'silu'?")),
        (lambda: trainer("mse"), ("unknown loss 'mse'", "did you mean 'squared_error'?")),
        (lambda: trainer("binary-crossentropy"), ("did you mean 'sigmoid_cross_entropy'?",)),
        (lambda: trainer(optimizer="SGD"), ("unknown optimizer 'SGD'", "did you mean 'sgd'?")),
        (lambda: trainer(optimizer=Adam), ("the class Adam is no optimizer; pass an object",)),
        (lambda: trainer(precision="float32"), ("unknown precision", "did you mean 'fp32'?")),
        (lambda: trainer(device="gpu"), ("unknown device 'gpu'", "did you mean 'cuda'?")),
        (lambda: trainer(lr=0), ("Adam: lr must be a finite number above 0, got 0",)),
        (lambda: trainer(lr="1e-3"), ("Adam: lr must be a finite number above 0",)),
        (lambda: trainer(schedule="cosin"), ("unknown schedule 'cosin'", "'cosine'?")),
        (
            lambda: trainer(precision="fp23"),
            ("unknown precision 'fp23'", "known: bf16, fp32, fp64"),
        ),
        (lambda: trainer(precision="tf32"), ("'tf32' needs device 'cuda'", "'fp32', 'fp64'")),
        (lambda: trainer(device="cuda"), ("'numpy' computes on cpu, not on cuda", "leave out")),
        (lambda: trainer(backend="numbra"), ("unknown backend 'numbra'", "'numba'?")),
        (lambda: trainer(device="gpu"), ("unknown device 'gpu'",)),
        (lambda: Dense(3, initializer="hee"), ("unknown initializer 'hee'",)),
        (lambda: LOSSES.get("huber", q=1), ("unknown option of loss 'huber' 'q'", "threshold")),
        (lambda: SCHEDULES.get(3), ("3 is no schedule", "constant")),
        (lambda: INITIALIZERS.from_config({}), ("needs a name",)),
        (
            lambda: trainer(optimizer=SGD),
            (
                "is no optimizer",
                "names adagrad, adam",
            ),
        ),
        (lambda: SGD(lr=0), ("SGD: lr must be a finite number above 0, got 0",)),
        (lambda: SGD(lr=float("nan")), ("SGD: lr must be", "got nan")),
        (lambda: Adam(beta1=1), ("Adam: beta1 must be", "below 1, got 1")),
        (lambda: Huber(-1), ("Huber: threshold must be", "got -1")),
        (lambda: Dense(0), ("Dense: units must be a whole number at least 1, got 0",)),
        (lambda: Dense(2.5), ("Dense: units must be a whole number", "got 2.5")),
        (lambda: Dropout(1.0), ("Dropout: rate must be", "below 1, got 1.0")),
        (Sequential, ("at least one layer, such as Dense(10)",)),
        (lambda: Sequential("dense"), ("layer 'dense' needs its option 'units'",)),
        (lambda: Sequential(Dropout(0.5)), ("a layer that can be trained",)),
        (lambda: Sequential(Dense), ("is no layer",)),
        (lambda: Trainer([Dense(3)]), ("network is a list, needs a gpubp.Sequential",)),
        (lambda: trainer(seed=-1), ("seed must be a whole number from 0", "got -1")),
        (lambda: trainer(seed=1.0), ("seed must be", "got 1.0")),
        (lambda: trainer(l2=-0.1), ("l2 must be", "at least 0, got -0.1")),
        (lambda: trainer(clip_norm=0), ("clip_norm must be", "above 0 or None, got 0")),
        (lambda: trainer(backend="numba", threads=0), ("threads must be", "got 0")),
    ],
)
def test_settings(make, words):
    with refused(*words):
        make()


def test_a_device_that_is_not_there():
    words = "device 'cuda:99' can't be had", "use device 'cpu'"
    with refused(*words, error=DeviceError):
        trainer(device="cuda:99", backend=None)


@pytest.mark.parametrize(
    "use",
    [
        lambda t: t.predict(X), lambda t: t.forward(X), lambda t: t.evaluate(X, y),
        lambda t: t.parameters(), lambda t: t.named_parameters(), lambda t: t.plan(8),
        lambda t: t.set_parameters(np.zeros(3)), lambda t: t.named_gradients(),
    ],
)  # fmt: skip
def test_use_before_training(use):
    with refused("no weights yet", "call fit, or initialize(features)"):
        use(trainer())


def test_parameters_of_another_shape_or_name():
    model = trainer()
    model.initialize(5)
    with refused("shape (39,), got (40,)"):
        model.set_parameters(np.zeros(40))
    with refused("unknown parameter 'W3'", "W1"):
        model.set_named_parameters({"W3": np.zeros(3)})
    with refused("W1 has shape (5, 4), got (4, 5)"):
        model.set_named_parameters({"W1": np.zeros((4, 5))})


def test_probabilities_of_a_regression():
    model = trainer("huber")
    model.fit(X, T)
    with refused("loss 'huber' has no probabilities; use predict"):
        model.predict_proba(X)


def test_other_features_than_it_was_trained_on():
    model = trainer()
    model.fit(X, y)
    for use in (model.predict, lambda bad: model.fit(bad, y)):
        with refused("X has 4 columns, but the network takes 5"):
            use(np.ascontiguousarray(X[:, :4]))
    with refused("4 features", "trained on 5"):
        model.initialize(4)


def saved(path):
    model = trainer()
    model.fit(X, y)
    model.save(path)
    return path.read_bytes()


def test_a_model_file_that_is_not_there(tmp_path):
    with refused(str(tmp_path / "no.gpubp"), "no such file", error=CheckpointError):
        Trainer.load(tmp_path / "no.gpubp")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole[:-1], ("cut short",)),
        (lambda whole: whole[:100], ("cut short",)),
        (lambda whole: b"", ("empty",)),
        (lambda whole: b"PK\3\4" + whole, ("not a gpubp model file",)),
        (lambda whole: whole.replace(b'"gpubp":"2 ', b'"gpubp":"9 '), ("version 9", "upgrade")),
        (lambda whole: whole.replace(b"relu", b"tanh"), ("corrupt", "checksum")),
        (lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]), ("corrupt", "checksum")),
    ],
)
def test_a_model_file_that_is_damaged_or_of_another_version(damage, words, tmp_path):
    path = tmp_path / "model.gpubp"
    whole = saved(path)
    path.write_bytes(damage(whole))
    assert path.read_bytes() != whole
    with refused(str(path), *words, error=CheckpointError):
        Trainer.load(path)


@pytest.mark.parametrize("callback", [Checkpoint, HistoryCSV])
def test_a_place_that_cannot_be_written_to_is_said_before_training(callback, tmp_path):
    (tmp_path / "file").touch()
    model = trainer()
    for place in (tmp_path / "file" / "out", tmp_path / "nowhere" / "out", tmp_path):
        with refused("cannot write", str(place), error=SaveError):
            model.fit(X, y, callbacks=[callback(place)])
    assert (model.step, len(model.history)) == (0, 0)


def test_a_disk_that_fills_up_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "model.gpubp"
    sync = files.os.fsync
    model = trainer()

    def full(descriptor):
        if model.epoch == 3:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    with refused("cannot write", "No space left", "free some space", error=SaveError):
        model.fit(X, y, epochs=5, callbacks=[Checkpoint(path)])
    assert Trainer.load(path).epoch == 2
    assert [file.name for file in tmp_path.iterdir()] == ["model.gpubp"]
    model.fit(X, y, epochs=5, resume=True)  # and nothing is lost: it goes on where it was
    assert model.epoch == 5


def test_every_error_is_of_the_family_and_of_the_built_in_kind():
    for error, kind in {
        InputError: ValueError, CheckpointError: ValueError, DeviceError: RuntimeError,
        DeviceMemoryError: MemoryError, SaveError: OSError,
    }.items():  # fmt: skip
        assert issubclass(error, GpubpError)
        assert issubclass(error, kind)


NO_CLASSES = [3, 99, -7, 10**6, -(2**62), 2**62]


@pytest.mark.parametrize("way", ["numpy", "strict", "numba-1", "numba-3", "cuda"])
@pytest.mark.parametrize("label", NO_CLASSES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_labels_that_are_spoiled_during_an_epoch_end_it(label, precision, way, monkeypatch):
    """By a callback of its progress, or by a thread; the parameters stay those of a step before."""
    monkeypatch.setattr(engine, "_CHUNK_SECONDS", 0)  # progress is told after each step
    steps = []
    X = np.random.default_rng(0).normal(size=(40, 5))
    y = np.arange(40) % 3

    class Spoil(Callback):
        def on_progress(self, trainer, progress):
            steps.append(progress.steps_done)
            (held,) = (e.data["y"] for e in trainer._engine._executables.values() if e.bound)
            held[...] = label  # the user's own array, or the device's copy

    if (way, precision) == ("strict", "bf16"):
        pytest.skip("array-api-strict has no bfloat16")
    trainer = make(way, Dense(8, "tanh"), Dense(3), precision=precision)
    with pytest.raises(InputError, match=f"y has {label} at row 0, which it had not") as caught:
        trainer.fit(X, y, epochs=9, batch_size=4, callbacks=[Spoil()])
    assert "give fit a copy" in str(caught.value)
    assert steps == [1]
    assert (trainer.epoch, trainer.step) == (0, 1)
    assert np.isfinite(trainer.parameters()).all()
    trainer.fit(X, np.arange(40) % 3, batch_size=4)


@pytest.mark.parametrize("label", NO_CLASSES)
@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("held_out", [True, False])
def test_labels_that_a_callback_spoils_are_found_before_the_next_epoch(label, backend, held_out):
    X = np.random.default_rng(0).normal(size=(30, 5))
    y, validation = np.arange(30) % 3, np.arange(30) % 3

    def spoil(trainer, record):
        (validation if held_out else y)[5] = label

    trainer = Trainer(Sequential(Dense(3)), backend=backend, device="cpu")
    with pytest.raises(InputError, match=f"y has {label} at row 5, which it had not"):
        trainer.fit(X, y, epochs=3, validation_data=(X, validation), callbacks=[spoil])
    assert trainer.epoch == 1
