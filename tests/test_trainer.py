"""The trainer: what it learns, what it reports, and that it leaves the user's data alone."""

import tracemalloc

import numpy as np
import pytest
from networks import data, make, order, split_all

from gpubp import Activation, Dense, Dropout, Sequential, Trainer, engine
from gpubp.callbacks import Callback
from gpubp.engine import Engine
from gpubp.errors import CopyWarning, InputError
from gpubp.losses import SquaredError
from gpubp.optimizers import SGD, Adam, Momentum
from gpubp.schedules import StepDecay
from gpubp.streams import VALIDATION_SPLIT

every_way = pytest.mark.parametrize("way", ["numpy", "strict", "numba-1", "numba-3", "cuda"])
both = pytest.mark.parametrize("backend", ["numpy", "numba"])


@pytest.fixture(autouse=True)
def _split(monkeypatch):
    split_all(monkeypatch)


def linear(way, **settings):
    """A linear network whose steps are quickly written by hand: ½ (x W + b - t)², SGD."""
    settings = {"loss": "squared_error", "optimizer": SGD(lr=0.1), "precision": "fp64"} | settings
    return make(way, Dense(2), **settings)


def step_by_hand(W, b, x, t, lr=0.1, weights=1.0):
    """Return W and b after a step of :func:`linear` on a minibatch, and its loss."""
    dz = (x @ W + b - t) * np.reshape(weights, (-1, 1)) / len(x)
    loss = (np.reshape(weights, (-1, 1)) * (x @ W + b - t) ** 2).sum() / 2 / len(x)
    return W - lr * x.T @ dz, b - lr * dz.sum(axis=0), loss


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)


@every_way
@pytest.mark.parametrize("batch_size", [1, 7, 8, 36, 37])
def test_minibatches_in_the_order_drawn_the_last_one_smaller(way, batch_size):
    """By hand, on the very rows that the engine says it takes; the last minibatch counts for what
    it has: its step is a mean over its own rows, the epoch's loss a mean over all rows."""
    X, y = data("squared_error", outputs=2, dtype=np.float64)
    trainer = linear(way)
    trainer.initialize(5)
    W, b = (trainer.named_parameters()[name] for name in ("W1", "b1"))
    history = trainer.fit(X, y, epochs=3, batch_size=batch_size)
    for epoch in range(3):
        drawn = order(trainer, 37, epoch)
        total = 0.0
        for start in range(0, 37, batch_size):
            rows = drawn[start : start + batch_size]
            W, b, loss = step_by_hand(W, b, X[rows], y[rows])
            total += loss * len(rows)
        close(history[epoch]["loss"], total / 37)
    close(trainer.named_parameters()["W1"], W)
    close(trainer.named_parameters()["b1"], b)
    assert trainer.step == 3 * -(-37 // batch_size)


@every_way
def test_without_shuffling_rows_come_as_they_are(way):
    X, y = data("squared_error", outputs=2, dtype=np.float64)
    trainer = linear(way)
    trainer.initialize(5)
    W, b = (trainer.named_parameters()[name] for name in ("W1", "b1"))
    trainer.fit(X, y, batch_size=10, shuffle=False)
    for start in range(0, 37, 10):
        W, b, _ = step_by_hand(W, b, X[start : start + 10], y[start : start + 10])
    close(trainer.named_parameters()["W1"], W)


@every_way
def test_sample_weights_are_factors_and_not_normalised(way):
    X, y = data("squared_error", outputs=2, dtype=np.float64)
    w = np.random.default_rng(3).random(37) * 3
    trainer = linear(way)
    trainer.initialize(5)
    W, b = (trainer.named_parameters()[name] for name in ("W1", "b1"))
    history = trainer.fit(X, y, batch_size=37, shuffle=False, sample_weight=w)
    W, b, loss = step_by_hand(W, b, X, y, weights=w)
    close(trainer.named_parameters()["W1"], W)
    close(trainer.named_parameters()["b1"], b)
    close(history[0]["loss"], loss)


@every_way
def test_a_weight_of_0_leaves_a_row_out(way):
    """The mean is still over all rows, so the others' weights make up for those that are out."""
    X, y = data(dtype=np.float64)
    kept = np.arange(37) % 3 != 0
    layers = Dense(6, "tanh"), Dense(3)
    weighted, shorter = (make(way, *layers, precision="fp64") for _ in range(2))
    for _ in range(5):
        weighted.fit(X, y, batch_size=37, sample_weight=kept * 37 / kept.sum())
        shorter.fit(X[kept], y[kept], batch_size=int(kept.sum()))
    np.testing.assert_allclose(weighted.parameters(), shorter.parameters(), rtol=1e-8)


@both
def test_predictions_of_a_classifier(backend):
    trainer = make_trained(backend, "softmax_cross_entropy", Dense(3))
    logits = X3 @ W3 + b3
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    close(trainer.forward(X3), logits)
    close(trainer.predict_proba(X3), chances)
    labels = trainer.predict(X3)
    np.testing.assert_array_equal(labels, logits.argmax(axis=1))
    assert labels.dtype == np.int64
    y = np.array([0, 1, 2, 2, 1])
    found = trainer.evaluate(X3, y)
    close(found["loss"], -np.log(chances[np.arange(5), y]).mean())
    assert found["accuracy"] == (logits.argmax(axis=1) == y).mean()
    assert found.keys() == {"loss", "accuracy"}


X3, W3 = (np.random.default_rng(7).normal(size=shape) for shape in ((5, 4), (4, 3)))
b3 = np.array([0.1, -0.2, 0.3])


def make_trained(backend, loss, *layers):
    """A trainer with W3 and b3 for its parameters."""
    trainer = Trainer(Sequential(*layers), loss=loss, backend=backend, precision="fp64")
    trainer.initialize(4)
    trainer.set_named_parameters({"W1": W3[:, : layers[0].units], "b1": b3[: layers[0].units]})
    return trainer


@both
def test_predictions_of_independent_classes(backend):
    trainer = make_trained(backend, "sigmoid_cross_entropy", Dense(3))
    logits = X3 @ W3 + b3
    y = (np.random.default_rng(1).random((5, 3)) < 0.5).astype(np.float64)
    close(trainer.predict_proba(X3), 1 / (1 + np.exp(-logits)))
    np.testing.assert_array_equal(trainer.predict(X3), (logits > 0).astype(int))
    found = trainer.evaluate(X3, y)
    close(found["loss"], (np.log1p(np.exp(logits)) - y * logits).sum(axis=1).mean())
    assert found["accuracy"] == ((logits > 0) == y).all(axis=1).mean()


@both
def test_predictions_of_values(backend):
    trainer = make_trained(backend, "squared_error", Dense(3))
    outputs = X3 @ W3 + b3
    t = np.random.default_rng(1).normal(size=(5, 3))
    close(trainer.predict(X3), outputs)
    found = trainer.evaluate(X3, t)
    close(found["loss"], ((outputs - t) ** 2).sum(axis=1).mean() / 2)
    close(found["rmse"], np.sqrt(((outputs - t) ** 2).mean()))
    close(found["r2"], 1 - ((outputs - t) ** 2).sum() / ((t - t.mean(axis=0)) ** 2).sum())
    assert found.keys() == {"loss", "rmse", "r2"}


@both
def test_predictions_of_counts_are_rates(backend):
    trainer = make_trained(backend, "poisson", Dense(3))
    outputs, t = X3 @ W3 + b3, np.arange(15.0).reshape(5, 3)
    close(trainer.predict(X3), np.exp(outputs))
    found = trainer.evaluate(X3, t)
    close(found["loss"], (np.exp(outputs) - t * outputs).sum(axis=1).mean())
    close(found["rmse"], np.sqrt(((np.exp(outputs) - t) ** 2).mean()))


@both
def test_evaluation_with_weights(backend):
    trainer = make_trained(backend, "squared_error", Dense(1))
    w, t = np.array([0.0, 1, 2, 3, 4]), np.zeros(5)
    outputs = X3 @ W3[:, :1] + b3[:1]
    close(trainer.evaluate(X3, t, w)["loss"], (w * outputs[:, 0] ** 2).sum() / 5 / 2)


@both
def test_r2_of_targets_that_do_not_vary_is_undefined(backend):
    trainer = make_trained(backend, "squared_error", Dense(1))
    assert np.isnan(trainer.evaluate(X3, np.ones(5))["r2"])


@both
def test_targets_given_as_a_vector_come_back_as_one(backend):
    X, y = data("squared_error", outputs=1)
    vector, column = (
        Trainer(Sequential(Dense(1)), loss="squared_error", backend=backend) for _ in range(2)
    )
    vector.fit(X, y[:, 0])
    column.fit(X, y)
    assert vector.predict(X).shape == (37,)
    np.testing.assert_array_equal(vector.parameters(), column.parameters())


def test_the_learning_rate_stands_in_place_of_the_optimizers():
    network = Sequential(Dense(2))
    assert Trainer(network, lr=0.25).optimizer == Adam(lr=0.25)
    assert Trainer(network, optimizer="sgd", lr=0.25).optimizer == SGD(lr=0.25)
    mine = Momentum(lr=0.5, momentum=0.3)
    assert Trainer(network, optimizer=mine, lr=0.25).optimizer == Momentum(lr=0.25, momentum=0.3)
    assert mine.lr == 0.5


@pytest.mark.parametrize("loss", ["squared_error", "sigmoid_cross_entropy"])
def test_the_shapes_of_predictions(loss):
    X, y = data(rows=37)
    trainer = Trainer(Sequential(Dense(1)), loss, backend="numpy")
    trainer.initialize(X.shape[1])
    assert trainer.predict(X).shape == (37, 1)
    trainer.fit(X, (y == 1).astype(np.float64))
    assert trainer.predict(X).shape == (37,)
    assert trainer.forward(X).shape == (37, 1)
    if trainer.loss.classifies:
        assert trainer.predict_proba(X).shape == (37, 1)


@both
def test_evaluation_and_prediction_of_many_rows_and_of_one(backend):
    """Rows beyond the size at which they are taken together; predictions have no dropout."""
    X, y = data(rows=2100)
    trainer = Trainer(Sequential(Dense(6, "relu"), Dropout(0.5), Dense(3)), backend=backend)
    trainer.fit(X, y)
    whole = trainer.forward(X)
    parts = np.concatenate(
        [trainer.forward(X[:1]), trainer.forward(X[1:100]), trainer.forward(X[100:])]
    )
    np.testing.assert_allclose(whole, parts, rtol=1e-5, atol=1e-6)
    found = trainer.evaluate(X, y)
    assert found["accuracy"] == (whole.argmax(axis=1) == y).mean()
    z = whole.astype(np.float64)
    losses = np.log(np.exp(z).sum(axis=1)) - z[np.arange(2100), y]
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-5)


@every_way
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "sigmoid_cross_entropy"])
def test_classes_are_told_a_block_of_rows_at_a_time(way, loss, monkeypatch):
    """The same classes whatever the blocks, and of no two blocks the outputs at once."""
    X, _ = data(rows=3000)
    trainer = make(way, Dense(5, "tanh"), Dense(3), loss=loss)
    trainer.initialize(X.shape[1])
    held = []
    predict = trainer._engine.predict

    def watched(block, *, link):
        held.append(block.size)
        return predict(block, link=link)

    monkeypatch.setattr(trainer._engine, "predict", watched)
    whole = trainer.predict(X)
    z = trainer.forward(X)
    right = z.argmax(axis=1) if loss == "softmax_cross_entropy" else (z > 0).astype(np.int64)
    np.testing.assert_array_equal(whole, right)
    monkeypatch.setattr(engine, "_BLOCK_OUTPUTS", 1)
    held.clear()
    found = trainer.predict(X)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, whole)
    assert held == [1024, 1024, 952]


@every_way
def test_validation_fraction_holds_rows_out_by_the_seed(way):
    """They are never trained on, and evaluated after each epoch."""
    X, y = data(rows=40)
    trainer = make(way, Dense(3), precision="fp64", optimizer="sgd")
    taken = []

    class Spy(Callback):
        def on_epoch_end(self, trainer, record):
            taken.append(record["val_loss"])

    history = trainer.fit(X, y, epochs=2, batch_size=8, validation_fraction=0.25, callbacks=[Spy()])
    training, validation = rows_split(trainer, 40, 10)
    assert sorted([*training, *validation]) == list(range(40))
    assert trainer.step == 2 * 4  # 30 rows
    again = make(way, Dense(3), precision="fp64", optimizer="sgd")
    again.initialize(5)
    for epoch in range(2):
        rows = order(again, 30, epoch)
        again.fit(X[training][rows], y[training][rows], batch_size=8, shuffle=False)
        expected = again.evaluate(X[validation], y[validation])
        assert history[epoch]["val_loss"] == pytest.approx(expected["loss"], rel=1e-12)
        assert history[epoch]["val_accuracy"] == expected["accuracy"]
    np.testing.assert_array_equal(trainer.parameters(), again.parameters())
    np.testing.assert_array_equal(history.column("val_loss"), taken)


def rows_split(trainer, rows, held_out):
    """Return the rows trained on and those held out, in ascending order."""
    with trainer._backend.active():
        drawn = trainer._engine.permutation(rows, VALIDATION_SPLIT, 0)
        rows = np.array(trainer._backend.to_host(drawn))
    return np.sort(rows[held_out:]), np.sort(rows[:held_out])


@both
def test_validation_data(backend):
    X, y = data("squared_error", rows=50, outputs=2)
    trainer = Trainer(Sequential(Dense(2)), loss="squared_error", backend=backend)
    history = trainer.fit(X[:40], y[:40], epochs=3, validation_data=(X[40:], y[40:]))
    found = trainer.evaluate(X[40:], y[40:])
    assert {f"val_{name}": value for name, value in found.items()}.items() <= history[-1].items()


@both
def test_the_columns_of_the_history(backend):
    X, y = data()
    trainer = Trainer(Sequential(Dense(3)), backend=backend, optimizer=SGD(lr=0.25))
    history = trainer.fit(X, y, epochs=3, batch_size=8)
    assert history.names == ["epoch", "step", "loss", "lr", "seconds", "samples_per_second"]
    np.testing.assert_array_equal(history.column("epoch"), [1, 2, 3])
    np.testing.assert_array_equal(history.column("step"), [5, 10, 15])
    np.testing.assert_array_equal(history.column("lr"), [0.25] * 3)
    np.testing.assert_allclose(
        history.column("samples_per_second") * history.column("seconds"), 37.0
    )
    assert history is trainer.history


@both
def test_the_schedule_multiplies_the_rate_of_every_step(backend):
    """Halved after every epoch: by hand, and as the history has it."""
    X, y = data("squared_error", outputs=2, dtype=np.float64)
    trainer = linear({"numpy": "numpy", "numba": "numba-1"}[backend], schedule=StepDecay(every=1))
    trainer.initialize(5)
    W, b = (trainer.named_parameters()[name] for name in ("W1", "b1"))
    history = trainer.fit(X, y, epochs=3, batch_size=20, shuffle=False)
    for lr in (0.1, 0.05, 0.025):
        for rows in (slice(0, 20), slice(20, 37)):
            W, b, _ = step_by_hand(W, b, X[rows], y[rows], lr)
    close(trainer.named_parameters()["W1"], W)
    close(history.column("lr"), [0.1, 0.05, 0.025])


@both
def test_a_new_run_starts_the_schedule_anew_and_keeps_the_rest(backend):
    X, y = data()
    options = {"backend": backend, "optimizer": Momentum(lr=0.1), "schedule": StepDecay(every=1)}
    trainer = Trainer(Sequential(Dense(3)), **options)
    trainer.fit(X, y, epochs=2)
    before = trainer.parameters()
    history = trainer.fit(X, y, epochs=2)
    assert (trainer.epoch, trainer.step, len(history)) == (4, 8, 4)
    close(history.column("lr"), [0.1, 0.05, 0.1, 0.05])
    assert not np.array_equal(before, trainer.parameters())
    np.testing.assert_array_equal(history.column("epoch"), [1, 2, 3, 4])


@every_way
def test_two_runs_of_an_epoch_are_a_run_of_two(way):
    X, y = data()
    layers = Dense(6, "tanh"), Dropout(0.2), Dense(3)
    once, twice = make(way, *layers), make(way, *layers)
    once.fit(X, y, epochs=2, batch_size=8)
    twice.fit(X, y, batch_size=8)
    twice.fit(X, y, batch_size=8)
    np.testing.assert_array_equal(once.parameters(), twice.parameters())
    np.testing.assert_array_equal(once.history.column("loss"), twice.history.column("loss"))


def test_callbacks_are_called_in_order_and_closed():
    X, y = data()
    calls = []

    class Named(Callback):
        def __init__(self, name):
            self.name = name

        def on_fit_start(self, trainer, run):
            calls.append((self.name, "start", run.epochs, run.steps_per_epoch, run.rows))

        def on_progress(self, trainer, progress):
            assert 0 < progress.steps_done <= progress.steps_total == 5
            assert progress.epoch == trainer.epoch + 1

        def on_epoch_end(self, trainer, record):
            assert trainer.history[-1] == record
            calls.append((self.name, "epoch", record["epoch"]))
            return record["epoch"] == 2 and self.name == "a"

        def on_fit_end(self, trainer):
            calls.append((self.name, "end"))

        def close(self):
            calls.append((self.name, "close"))

    trainer = Trainer(Sequential(Dense(3)), backend="numpy")
    trainer.fit(X, y, epochs=9, batch_size=8, callbacks=[Named("a"), Named("b")])
    assert calls == [
        ("a", "start", 9, 5, 37), ("b", "start", 9, 5, 37),
        ("a", "epoch", 1), ("b", "epoch", 1), ("a", "epoch", 2), ("b", "epoch", 2),
        ("a", "end"), ("b", "end"), ("a", "close"), ("b", "close"),
    ]  # fmt: skip


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_features_are_used_where_they_are(backend, dtype, monkeypatch):
    """X of 64 MB: training, evaluation and prediction need a few MB beside it."""
    X = np.ones((64_000_000 // 500 // np.dtype(dtype).itemsize, 500), dtype)
    y = np.arange(len(X)) % 2
    trainer = Trainer(Sequential(Dense(2)), backend=backend)
    trainer.fit(X[:100], y[:100])
    trainer.evaluate(X[:100], y[:100])
    seen = []
    train = Engine.train

    def spy(engine, data, *rest):
        seen.append(data.x)
        return train(engine, data, *rest)

    monkeypatch.setattr(Engine, "train", spy)
    tracemalloc.start()
    try:
        trainer.fit(X, y, batch_size=1000)
        trainer.evaluate(X, y)
        trainer.predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.shares_memory(seen[0], X)
    assert peak < 16e6


@both
def test_a_memory_map_is_trained_on_like_an_array(backend, tmp_path):
    X, y = data(rows=100)
    file = np.memmap(tmp_path / "X", np.float32, "w+", shape=X.shape)
    file[...] = X
    file.flush()
    mapped = np.memmap(tmp_path / "X", np.float32, "r", shape=X.shape)
    trainers = [Trainer(Sequential(Dense(4, "relu"), Dense(3)), backend=backend) for _ in range(2)]
    for trainer, features in zip(trainers, (X, mapped), strict=True):
        trainer.fit(features, y, epochs=2)
    np.testing.assert_array_equal(*(trainer.parameters() for trainer in trainers))
    np.testing.assert_array_equal(
        *(t.forward(x) for t, x in zip(trainers, (X, mapped), strict=True))
    )


@both
def test_features_in_another_layout_are_copied_and_it_is_said(backend):
    X, y = data()
    plain, other = (Trainer(Sequential(Dense(3)), backend=backend) for _ in range(2))
    plain.fit(X, y)
    with pytest.warns(CopyWarning, match="ascontiguousarray"):
        other.fit(np.asfortranarray(X), y)
    np.testing.assert_array_equal(plain.parameters(), other.parameters())


@every_way
def test_the_users_arrays_stay_as_they_are(way):
    X, y = data()
    w = np.random.default_rng(0).random(37)
    copies = X.copy(), y.copy(), w.copy()
    for array in (X, y, w):
        array.flags.writeable = False
    trainer = make(way, Dense(3))
    trainer.fit(X, y, batch_size=8, sample_weight=w, validation_fraction=0.2)
    trainer.predict(X)
    for array, copy in zip((X, y, w), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_parameters_by_name_and_as_a_vector():
    trainer = Trainer(Sequential(Dense(3, "relu"), Activation("tanh"), Dense(2, bias=False)))
    with pytest.raises(InputError, match="call fit, or initialize"):
        trainer.parameters()
    trainer.initialize(4)
    named = trainer.named_parameters()
    assert {name: value.shape for name, value in named.items()} == {
        "W1": (4, 3), "W3": (3, 2), "b1": (3,),
    }  # fmt: skip
    vector = trainer.parameters()
    np.testing.assert_array_equal(vector, np.concatenate([v.ravel() for v in named.values()]))
    vector[:] = 7
    named["W1"][:] = 7
    assert not (trainer.parameters() == 7).any()  # copies, all of them
    trainer.set_parameters(np.arange(21))
    np.testing.assert_array_equal(trainer.named_parameters()["b1"], [18, 19, 20])
    trainer.set_named_parameters({"b1": [1, 2, 3]})
    np.testing.assert_array_equal(trainer.parameters()[18:], [1, 2, 3])


def test_the_loss_may_be_without_its_half():
    X, y = data("squared_error", outputs=2, dtype=np.float64)
    half = linear("numpy", optimizer=SGD(lr=0.2))
    whole = linear("numpy", loss=SquaredError(half=False))
    close(half.fit(X, y).column("loss") * 2, whole.fit(X, y).column("loss"))
    close(half.parameters(), whole.parameters())


@both
def test_penalties_are_on_the_weights_alone(backend):
    """With a gradient of 0 from the data, a step is the penalty's own."""
    trainer = Trainer(
        Sequential(Dense(2)), loss="squared_error", optimizer=SGD(lr=0.1), l1=0.3, l2=0.5,
        backend=backend, precision="fp64",
    )  # fmt: skip
    trainer.initialize(3)
    W, b = np.array([[1.0, -2.0], [0.0, 4.0], [-5.0, 6.0]]), np.array([7.0, 8.0])
    trainer.set_named_parameters({"W1": W, "b1": b})
    trainer.fit(np.zeros((4, 3)), np.tile(b, (4, 1)), batch_size=4)
    close(trainer.named_parameters()["W1"], W - 0.1 * (0.3 * np.sign(W) + 0.5 * W))
    close(trainer.named_parameters()["b1"], b)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e7, 1e-300, 14.62])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_r2_of_targets_that_vary_by_rounding_alone_is_nan(value, backend):
    X = np.random.default_rng(0).normal(size=(70, 3))
    trainer = Trainer(Sequential(Dense(1)), "squared_error", backend=backend, precision="fp64")
    trainer.initialize(3)
    y = np.full(70, value)
    assert np.isnan(trainer.evaluate(X, y)["r2"])
    y[::2] = np.nextafter(value, 100)
    assert np.isnan(trainer.evaluate(X, y)["r2"]) or value == 0
    y[::2] = value + 1e-3 + abs(value) * 1e-9
    assert np.isfinite(trainer.evaluate(X, y)["r2"])
