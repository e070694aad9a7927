"""A loss that becomes NaN or infinite: said where and when, with the model of the step before."""

import re

import numpy as np
import pytest
from networks import data, make, split_all

from gpubp import Activation, Dense, Trainer
from gpubp.callbacks import Checkpoint
from gpubp.errors import InputError, NonFiniteError
from gpubp.optimizers import OPTIMIZERS, SGD
from gpubp.plan.ir import PARAMS

every_way = pytest.mark.parametrize("way", ["numpy", "numba-1", "numba-3", "cuda"])


@pytest.fixture(autouse=True)
def _split(monkeypatch):
    split_all(monkeypatch)


def trainer_for(way, *layers, **settings):
    settings = {"loss": "squared_error"} | settings
    return make(way, *(layers or (Dense(4, "relu"), Dense(1))), **settings)


def poisoned(row, rows=40):
    """Return data whose row makes the output overflow float32, at a step that is known."""
    X, _ = data(rows=rows)
    X[row] = 3e38
    return X, np.zeros(rows, np.float32)


def error_of(trainer, *args, spoiled=False, **options):
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(*args, batch_size=8, shuffle=False, **options)
    assert caught.value.spoiled == spoiled
    return str(caught.value)


def poison_parameter(trainer, name, value):
    """Make a parameter what no door lets in."""
    values = trainer.named_parameters()
    values[name][...] = value
    with trainer._backend.active():
        engine = trainer._trained()
        engine.write(PARAMS, np.concatenate([np.ravel(part) for part in values.values()]))


@every_way
@pytest.mark.parametrize(("row", "step"), [(0, 1), (17, 3), (39, 5)])
def test_the_message_says_when_and_where_and_what_to_do(way, row, step):
    trainer = trainer_for(way)
    trainer.initialize(5)
    # All of one sign, for a product that sums in float64 could take overflows back.
    trainer.set_named_parameters({"W1": np.ones((5, 4))})
    message = error_of(trainer, *poisoned(row))
    assert message.startswith(f"epoch 1, step {step} of the epoch: the loss is not finite")
    assert re.search(r"first in [za][12](, [za]\d)* of layer [12], Dense\(", message)
    assert "lower learning rate (now 0.001)" in message
    assert "clip_norm" in message
    assert "standardised" in message


@every_way
def test_the_parameters_are_those_of_the_step_before(way):
    X, y = poisoned(26)  # in the fourth minibatch
    trainer, exactly = (
        trainer_for(way, optimizer="momentum"),
        trainer_for(way, optimizer="momentum"),
    )
    error_of(trainer, X, y)
    assert trainer.step == 3
    exactly.fit(X[:24], y[:24], batch_size=8, shuffle=False)
    np.testing.assert_array_equal(trainer.parameters(), exactly.parameters())


@every_way
def test_a_learning_rate_that_is_far_too_large(way):
    X, y = data("squared_error", outputs=1)
    trainer = trainer_for(way, optimizer=SGD(lr=1e30))
    message = error_of(trainer, X, y, epochs=3)
    assert "epoch 1" in message
    assert "now 1e+30" in message
    assert np.isfinite(trainer.parameters()).all()


@every_way
def test_a_later_epoch_and_a_parameter_that_was_infinite_before(way):
    X, y = data("squared_error", outputs=1)

    def poison(trainer, record):
        poison_parameter(trainer, "W2", np.inf)

    trainer = trainer_for(way)
    message = error_of(trainer, X, y, epochs=3, callbacks=[poison], spoiled=True)
    assert message.startswith("epoch 2, step 1 of the epoch")
    assert "already in parameter W2 of layer 2, Dense(" in message
    assert len(trainer.history) == 1


@every_way
def test_the_first_layer_that_went_wrong_is_named(way):
    """exp(exp(x)) overflows in the third layer of four."""
    X = np.full((8, 2), 5.0, np.float32)
    layers = Dense(3, bias=False), Activation("exponential"), Activation("exponential"), Dense(1)
    trainer = trainer_for(way, *layers)
    trainer.initialize(2)
    trainer.set_named_parameters({"W1": np.ones((2, 3))})
    message = error_of(trainer, X, np.zeros(8, np.float32))
    assert "in a3 of layer 3, Activation(" in message
    assert "computed as a3 = exponential(a2)" in message


@every_way
@pytest.mark.filterwarnings("ignore:y has values from .* train on")
def test_a_huge_target_overflows_the_loss_only(way):
    X, y = data("squared_error", rows=8, outputs=1)
    y[3] = 3e38
    message = error_of(trainer_for(way), X, y)
    assert re.search(r"first in .*loss.*computed as .*squared_error\(z2, y\)", message)


@every_way
def test_the_last_good_checkpoint_is_kept_and_named(way, tmp_path):
    X, y = data("squared_error", outputs=1)
    path = tmp_path / "model.gpubp"

    class ThenPoison(Checkpoint):
        def on_epoch_end(self, trainer, record):
            super().on_epoch_end(trainer, record)
            if record["epoch"] == 2:
                poison_parameter(trainer, "b1", np.nan)

    trainer = trainer_for(way)
    message = error_of(trainer, X, y, epochs=5, callbacks=[ThenPoison(path)], spoiled=True)
    assert f"The last good checkpoint is {path}" in message
    kept = Trainer.load(path)
    assert kept.epoch == 2
    assert np.isfinite(kept.parameters()).all()


def test_without_a_checkpoint_the_message_says_how_to_keep_one():
    assert "callbacks=[Checkpoint(path)]" in error_of(trainer_for("numpy"), *poisoned(0))


@every_way
def test_the_trainer_can_be_used_and_saved_afterwards(way, tmp_path):
    """The run is over; a new one, on better data, is as good as ever."""
    X, y = poisoned(26)
    trainer = trainer_for(way)
    error_of(trainer, X, y)
    with pytest.raises(InputError, match="no run to resume"):
        trainer.fit(X, y, batch_size=8, resume=True)
    trainer.save(tmp_path / "model.gpubp")
    loaded = Trainer.load(tmp_path / "model.gpubp")
    np.testing.assert_array_equal(loaded.parameters(), trainer.parameters())
    history = trainer.fit(X[:24], y[:24], epochs=2, batch_size=8)
    assert np.isfinite(history.column("loss")).all()
    assert (trainer.step, trainer.epoch) == (9, 2)


# One step whose loss is finite and whose update is not: 1e30 · 1e30 in float32.
UPDATES = {
    "sgd": SGD(lr=1e30),
    "momentum": OPTIMIZERS.get("momentum", lr=1e30),
    "adam, its second moment": OPTIMIZERS.get("adam"),
}


@every_way
@pytest.mark.parametrize("case", UPDATES)
def test_an_update_that_overflows_ends_the_run_after_its_step(way, case, tmp_path):
    """With the last step of an epoch there is no later loss to tell."""
    X, y = np.full((8, 2), 1e12, np.float32), np.zeros(8, np.float32)
    if case.startswith("adam"):
        X *= 1e10  # gradients of 1e22, of whose squares a thousandth is beyond float32
    path = tmp_path / "model.gpubp"
    trainer = trainer_for(way, Dense(1), loss="absolute_error", optimizer=UPDATES[case])
    trainer.initialize(2)
    trainer.set_named_parameters({"W1": np.full((2, 1), 1e-3)})
    kept = trainer.parameters()
    trainer.save(path)
    message = error_of(trainer, X, y, epochs=3, callbacks=[Checkpoint(path)], spoiled=True)
    what = "the optimizer's v of parameter" if case.startswith("adam") else "parameter"
    assert f"epoch 1, {what} W1 of layer 1, Dense(1) is not finite after step 1" in message
    assert "of no use any more" in message
    assert f"The last good checkpoint is {path}" in message
    np.testing.assert_array_equal(Trainer.load(path).parameters(), kept)
    with pytest.raises(NonFiniteError, match="is not finite"):
        trainer.save(path)
    assert not trainer.history


@every_way
def test_a_classifier_whose_outputs_are_nan_names_no_class(way):
    X, y = data(rows=20)
    for loss, outputs in (("softmax_cross_entropy", 3), ("sigmoid_cross_entropy", 1)):
        trainer = trainer_for(way, Dense(outputs), loss=loss)
        trainer.fit(X, y if outputs > 1 else (y > 0).astype(float))
        poison_parameter(trainer, "b1", np.nan)
        with pytest.raises(NonFiniteError, match="outputs are NaN, so no class"):
            trainer.predict(X)
        assert np.isnan(trainer.predict_proba(X)).all()
        assert np.isnan(trainer.evaluate(X, y if outputs > 1 else (y > 0) * 1.0)["accuracy"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_parameters_that_are_not_finite_are_refused(value):
    trainer = trainer_for("numpy")
    trainer.initialize(5)
    before = trainer.parameters()
    weights = trainer.named_parameters()["W1"].astype(np.float64)
    weights[1, 2] = value
    with pytest.raises(InputError, match=r"W1 has .* at \(1, 2\).*finite float32"):
        trainer.set_named_parameters({"W1": weights})
    vector = before.astype(np.float64)
    vector[3] = value
    with pytest.raises(InputError, match=r"the parameter vector has .* at \(3,\)"):
        trainer.set_parameters(vector)
    np.testing.assert_array_equal(trainer.parameters(), before)
