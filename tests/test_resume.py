"""Model files and what can be done with them: go on to the same end, anywhere."""

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from networks import data, load, make, split_all

from gpubp import Activation, Dense, Dropout, Sequential, Trainer, checkpoint, state
from gpubp.callbacks import Callback, Checkpoint, EarlyStopping
from gpubp.errors import CheckpointError, InputError
from gpubp.losses import LOSSES, Huber, SoftmaxCrossEntropy
from gpubp.optimizers import OPTIMIZERS, AdamW
from gpubp.schedules import SCHEDULES, Cosine, Warmup

CLOCK = ("seconds", "samples_per_second")


def records(trainer):
    """The history but for what the clock had to say."""
    return [{k: v for k, v in r.items() if k not in CLOCK} for r in trainer.history.records]


# What a killed process does and the one that takes over; a function, so that the test that is
# never killed does exactly the same.
def run(path, backend, callbacks=()):
    """Train to the end with a checkpoint after each epoch, from the one that is there, if any."""
    X, y = data(rows=3000, seed=4)
    y = np.where(np.random.default_rng(9).random(3000) < 0.2, 0, y)  # some of it can't be learned
    if Path(path).exists():
        trainer = Trainer.load(path)
    else:
        trainer = Trainer(
            Sequential(Dense(16, "relu"), Dropout(0.2), Dense(3)),
            optimizer=OPTIMIZERS.get("adam", lr=0.02),
            schedule=SCHEDULES.get("reduce_on_plateau", patience=2),
            backend=backend, threads=2, seed=3,
        )  # fmt: skip
    trainer.fit(
        X, y, epochs=200, batch_size=16, validation_fraction=0.2, resume=Path(path).exists(),
        callbacks=[EarlyStopping(patience=12), Checkpoint(path), *callbacks],
    )  # fmt: skip
    return trainer


CHILD = """
import sys, time
from test_resume import run

def tell(trainer, record):
    print("epoch", flush=True)
    time.sleep(0.01)

path, backend, final = sys.argv[1:]
run(path, backend, [tell]).save(final)
"""


@pytest.mark.parametrize(("backend", "kills"), [("numba", 4), ("numpy", 4)])
def test_killed_at_any_moment_it_ends_as_if_it_never_was(backend, kills, tmp_path):
    expected = run(tmp_path / "expected.gpubp", backend)
    assert 20 < expected.epoch < 200, "early stopping should end the run"
    assert len(set(expected.history.column("lr"))) > 2, "the rate should fall on the way"
    path, final = tmp_path / "model.gpubp", tmp_path / "final.gpubp"
    moments = random.Random(1)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", CHILD, path, backend, final]
    reached = []
    for _ in range(kills):
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as child:
            for _ in range(moments.randint(3, 6)):
                child.stdout.readline()  # an epoch more is done
            time.sleep(moments.uniform(0, 0.02))
            child.kill()
        reached.append(Trainer.load(path).epoch)
    lr = expected.history.column("lr")
    assert any(lr[epoch - 1] < 0.02 for epoch in reached if epoch < expected.epoch), (
        "a kill should come when there is something to remember"
    )
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=120)
    ended = Trainer.load(final)
    assert records(ended) == records(expected)
    np.testing.assert_array_equal(ended.parameters(), expected.parameters())


LAYERS = Dense(6, "tanh"), Dropout(0.3), Activation("elu"), Dense(3)
every_way = pytest.mark.parametrize("way", ["numpy", "numba-1", "numba-3", "cuda"])


@pytest.fixture
def split(monkeypatch):
    split_all(monkeypatch)


@every_way
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS])
def test_a_loaded_model_trains_on_to_the_bit(way, optimizer, split, tmp_path, monkeypatch):
    """Parameters, the optimizer's vectors, step and epoch are all there."""
    X, y = data()
    trainer = make(way, *LAYERS, optimizer=optimizer, seed=2)
    trainer.fit(X, y, epochs=2, batch_size=8)
    trainer.save(tmp_path / "model.gpubp")
    loaded = load(way, tmp_path / "model.gpubp", monkeypatch)
    assert (loaded.epoch, loaded.step) == (2, 10)
    assert loaded.history == trainer.history
    np.testing.assert_array_equal(loaded.parameters(), trainer.parameters())
    np.testing.assert_array_equal(loaded.forward(X), trainer.forward(X))
    for each in (trainer, loaded):
        each.fit(X, y, epochs=2, batch_size=8)
    np.testing.assert_array_equal(loaded.parameters(), trainer.parameters())
    assert records(loaded) == records(trainer)


@pytest.mark.parametrize(("first", "then"), [("numpy", "numba"), ("numba", "numpy")])
@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_a_model_goes_from_one_backend_to_another(first, then, precision, tmp_path):
    X, y = data()
    trainer = Trainer(Sequential(*LAYERS), backend=first, precision=precision)
    trainer.fit(X, y, epochs=2, batch_size=8)
    trainer.save(tmp_path / "model.gpubp")
    loaded = Trainer.load(tmp_path / "model.gpubp", backend=then)
    assert (loaded.backend_name, loaded.precision) == (then, precision)
    rounding = {"fp32": 5e-6, "fp64": 1e-12}[precision]
    np.testing.assert_array_equal(loaded.parameters(), trainer.parameters())
    np.testing.assert_allclose(loaded.forward(X), trainer.forward(X), rtol=0, atol=rounding)
    for each in (trainer, loaded):
        each.fit(X, y, epochs=2, batch_size=8)
    np.testing.assert_allclose(loaded.parameters(), trainer.parameters(), rtol=0, atol=rounding)


def test_an_interrupted_run_may_go_on_with_another_number_of_threads(split, tmp_path):
    """The loss of its epoch is carried over, up to rounding."""
    X, y = data(dtype=np.float64)
    expected = make("numba-3", *LAYERS, precision="fp64")
    expected.fit(X, y, epochs=2, batch_size=8)

    class Interrupt(Callback):
        def on_progress(self, trainer, progress):
            raise KeyboardInterrupt

    trainer = make("numba-3", *LAYERS, precision="fp64")
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, y, epochs=2, batch_size=8, callbacks=[Interrupt()])
    trainer.save(tmp_path / "model.gpubp")
    for threads in (1, 2):
        loaded = Trainer.load(tmp_path / "model.gpubp", threads=threads)
        loaded.fit(X, y, epochs=2, batch_size=8, resume=True)
        np.testing.assert_allclose(loaded.parameters(), expected.parameters(), rtol=1e-10)
        np.testing.assert_allclose(
            loaded.history.column("loss"), expected.history.column("loss"), rtol=1e-12
        )


def test_all_settings_come_back(tmp_path):
    trainer = Trainer(
        Sequential(Dense(6, "leaky_relu", "he_normal", bias=False, decays=False), Dense(3)),
        loss=SoftmaxCrossEntropy(0.2), optimizer=AdamW(lr=0.5, weight_decay=0.25, beta1=0.5),
        schedule=Warmup(steps=3, then=Cosine(0.125)), backend="numpy", precision="fp64", seed=2**50,
        l1=0.1, l2=0.2, clip_norm=3.0, clip_value=4.0, threads=3,
    )  # fmt: skip
    trainer.initialize(5)
    trainer.save(tmp_path / "model.gpubp", extra={"classes": ["a", "b"], "of": {"any": 1.5}})
    loaded = Trainer.load(tmp_path / "model.gpubp")
    for name in (
        "network", "loss", "optimizer", "schedule", "precision", "seed", "regularization",
        "threads", "backend_name", "device", "features", "extra",
    ):  # fmt: skip
        assert getattr(loaded, name) == getattr(trainer, name), name


@pytest.mark.parametrize("loss", [*LOSSES, Huber(0.3)])
def test_predictions_have_their_shape_after_loading(loss, tmp_path):
    X, y = data(loss, outputs=2 if loss == "softmax_cross_entropy" else 1)
    if y.ndim == 2:
        y = y[:, 0]
    layers = Dense(4, "tanh"), Dense(2 if loss == "softmax_cross_entropy" else 1)
    trainer = Trainer(Sequential(*layers), loss=loss, backend="numpy")
    trainer.fit(X, y)
    trainer.save(tmp_path / "model.gpubp")
    loaded = Trainer.load(tmp_path / "model.gpubp")
    assert loaded.predict(X).shape == (37,)
    np.testing.assert_array_equal(loaded.predict(X), trainer.predict(X))


@every_way
@pytest.mark.parametrize("schedule", ["constant", "exponential", "reduce_on_plateau"])
def test_a_run_that_ended_goes_on_to_more_epochs(way, schedule, split, tmp_path, monkeypatch):
    """Bit for bit to where a run of so many epochs ends, though the best were kept in between."""
    X, y = data()

    def stopping():
        return EarlyStopping("loss", patience=3, min_delta=10)  # the first epoch stays the best

    whole = make(way, *LAYERS, schedule=schedule, seed=2)
    whole.fit(X, y, epochs=4, batch_size=8, callbacks=[stopping()])
    parts = make(way, *LAYERS, schedule=schedule, seed=2)
    parts.fit(X, y, epochs=2, batch_size=8, callbacks=[stopping()])
    parts.save(tmp_path / "model.gpubp")
    loaded = load(way, tmp_path / "model.gpubp", monkeypatch)
    first = loaded.parameters()
    loaded.fit(X, y, epochs=4, batch_size=8, callbacks=[stopping()], resume=True)
    assert loaded.epoch == 4
    assert records(loaded) == records(whole)
    np.testing.assert_array_equal(loaded.parameters(), whole.parameters())
    np.testing.assert_array_equal(loaded.parameters(), first)
    # And where none is kept, the last are the same.
    for each in (loaded, whole):
        each.fit(X, y, epochs=5, batch_size=8, resume=True)
    np.testing.assert_array_equal(loaded.parameters(), whole.parameters())


def test_a_run_that_ended_has_no_fewer_epochs_and_another_can_begin(tmp_path):
    X, y = data()
    trainer = Trainer(Sequential(Dense(3)), backend="numpy")
    trainer.fit(X, y, epochs=2, batch_size=8)
    trainer.save(tmp_path / "model.gpubp")
    loaded = Trainer.load(tmp_path / "model.gpubp")
    with pytest.raises(InputError, match=r"has done 2 epochs, more than epochs=1; with resume"):
        loaded.fit(X, y, epochs=1, batch_size=8, resume=True)
    loaded.fit(X, y, epochs=2, batch_size=8, resume=True)  # nothing is left to do
    assert (loaded.epoch, loaded.step) == (2, 10)
    loaded.fit(X, y, batch_size=8)
    assert loaded.epoch == 3


@pytest.mark.parametrize(("rows", "batch_size"), [(36, 8), (37, 9)])
def test_a_run_is_resumed_with_the_data_it_had(rows, batch_size, tmp_path):
    X, y = data()
    path = tmp_path / "model.gpubp"
    Trainer(Sequential(Dense(3)), backend="numpy").fit(
        X, y, epochs=2, batch_size=8, callbacks=[Checkpoint(path)]
    )
    loaded = Trainer.load(path)
    with pytest.raises(InputError, match=f"not {batch_size} and {rows}; resume it with the same"):
        loaded.fit(X[:rows], y[:rows], epochs=3, batch_size=batch_size, resume=True)
    loaded.fit(X, y, epochs=3, batch_size=8, resume=True)
    assert loaded.epoch == 3


def test_a_model_without_weights_cannot_be_saved(tmp_path):
    with pytest.raises(InputError, match="no weights yet"):
        Trainer(Sequential(Dense(3)), backend="numpy").save(tmp_path / "model.gpubp")
    assert not (tmp_path / "model.gpubp").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, d: d.update(loss={"name": "os.system"}), "unknown loss 'os.system'"),
        (lambda t, d: d["network"][0].update(name="__import__"), "unknown layer '__import__'"),
        (lambda t, d: d["optimizer"].update(lr=-1), "lr must be"),
        (lambda t, d: d["optimizer"].update(more=1), "unknown option of optimizer 'adam' 'more'"),
        (lambda t, d: d.update(features=4), "W1 is float32 of shape (5, 3)"),
        (lambda t, d: d.update(history=[{"loss": "low"}]), "a record holds numbers by name"),
        (lambda t, d: d.pop("seed"), "in the document, seed are missing"),
        (lambda t, d: d.update(network=3), "network is 3"),
        (lambda t, d: d.update(run={"epochs": 2}), "in run, batch_size, first_epoch"),
        (lambda t, d: t.pop("W1"), "W1"),
        (lambda t, d: t.update(W9=np.zeros(3)), "W9"),
        (lambda t, d: t.update(b1=np.zeros(9)), "b1 is float64 of shape (9,)"),
        (lambda t, d: t.update({"optimizer.m": np.zeros(9)}), "optimizer.m is float64 of shape"),
    ],
)
def test_a_file_that_describes_no_model_of_ours(change, words, tmp_path):
    """Whole and undamaged, but of somebody else: refused in words, and nothing is run."""
    trainer = Trainer(Sequential(Dense(3)), backend="numpy")
    trainer.initialize(5)
    tensors, document = state.collect(trainer)
    document = json.loads(json.dumps(document))
    change(tensors, document)
    checkpoint.save(tmp_path / "model.gpubp", tensors, document)
    with pytest.raises(CheckpointError, match=re.escape(words)) as caught:
        Trainer.load(tmp_path / "model.gpubp")
    assert str(tmp_path / "model.gpubp") in str(caught.value)
