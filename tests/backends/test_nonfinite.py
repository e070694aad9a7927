"""A loss that becomes NaN or infinite: said where and when, with the model of the step before."""

import re

import numpy as np
import pytest
from networks import data, make, split_all

from gpubp import Activation, Dense, Trainer
from gpubp.callbacks import Checkpoint
from gpubp.errors import InputError, NonFiniteError
from gpubp.optimizers import SGD

every_way = pytest.mark.parametrize("way", ["numpy", "numba-1", "numba-3", "cuda"])


@pytest.fixture(autouse=True)
def _split(monkeypatch):
    split_all(monkeypatch)


def trainer_for(way, *layers, **settings):
    return make(way, *(layers or (Dense(4, "relu"), Dense(1))), loss="squared_error", **settings)


def poisoned(row, rows=40):
    """Return data whose row makes the output overflow float32, at a step that is known."""
    X, _ = data(rows=rows)
    X[row] = 3e38
    return X, np.zeros(rows, np.float32)


def error_of(trainer, *args, **options):
    with pytest.raises(NonFiniteError) as caught:
        trainer.fit(*args, batch_size=8, shuffle=False, **options)
    return str(caught.value)


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
        trainer.set_named_parameters({"W2": np.full((4, 1), np.inf)})

    trainer = trainer_for(way)
    message = error_of(trainer, X, y, epochs=3, callbacks=[poison])
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
                trainer.set_named_parameters({"b1": np.full(4, np.nan)})

    trainer = trainer_for(way)
    message = error_of(trainer, X, y, epochs=5, callbacks=[ThenPoison(path)])
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
    with pytest.raises(InputError, match="no interrupted run"):
        trainer.fit(X, y, batch_size=8, resume=True)
    trainer.save(tmp_path / "model.gpubp")
    loaded = Trainer.load(tmp_path / "model.gpubp")
    np.testing.assert_array_equal(loaded.parameters(), trainer.parameters())
    history = trainer.fit(X[:24], y[:24], epochs=2, batch_size=8)
    assert np.isfinite(history.column("loss")).all()
    assert (trainer.step, trainer.epoch) == (9, 2)
