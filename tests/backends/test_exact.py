"""What is equal to the last bit: random numbers on every backend, and every run repeated."""

import numpy as np
import oracles
import pytest
from networks import WAYS, data, make, order, split_all

from gpubp import Dense, Dropout
from gpubp.streams import DROPOUT

LAYERS = Dense(9, "relu"), Dropout(0.3), Dense(8, "gelu"), Dropout(0.2), Dense(3)
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(autouse=True)
def _split(monkeypatch):
    split_all(monkeypatch)


def trained(way, chunk_seconds=None, monkeypatch=None, **settings):
    """Return parameters and losses of a run with dropout, shuffling and a partial minibatch."""
    if monkeypatch:
        monkeypatch.setattr("gpubp.engine._CHUNK_SECONDS", chunk_seconds)
    trainer = make(way, *LAYERS, **settings)
    history = trainer.fit(*data(), epochs=4, batch_size=8)
    return trainer.parameters(), history.column("loss")


@every_way
def test_initial_weights_and_splits_and_shuffles_are_the_same_everywhere(way):
    def drawn(way):
        trainer = make(way, *LAYERS, seed=2**40 + 7)
        trainer.initialize(5)
        return trainer.parameters(), *(order(trainer, 1001, epoch) for epoch in (0, 1))

    for mine, expected in zip(drawn(way), drawn("numpy"), strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_a_shuffle_is_a_permutation_that_depends_on_seed_and_epoch():
    def drawn(seed, epoch):
        trainer = make("numpy", *LAYERS, seed=seed)
        trainer.initialize(5)
        return order(trainer, 1001, epoch)

    first = drawn(0, 0)
    assert sorted(first) == list(range(1001))
    for other in (drawn(0, 1), drawn(1, 0)):
        assert sorted(other) == list(range(1001))
        assert np.mean(first == other) < 0.01
    # By the definition: rows in the order of their random words, read off an independent Philox.
    words = [oracles.philox_word(0, 0, 3 << 24, row) for row in range(1001)]
    np.testing.assert_array_equal(first, np.argsort(words, kind="stable"))


@every_way
def test_dropout_masks_are_those_of_philox_at_seed_step_and_layer(way):
    """The mask is read off a gradient.

    Row i has ones in features of its own, the weights are 0 and the targets 1, so dW = -mask / (B
    (1 - rate)) there. The mask's element is that of the whole minibatch, whoever computes it.
    """
    rows, width, rate = 7, 5, 0.5
    X = np.kron(np.eye(rows), np.ones((1, width))).astype(np.float32)
    trainer = make(
        way, Dropout(rate), Dense(1, bias=False), loss="squared_error", optimizer="sgd", seed=11
    )
    trainer.initialize(rows * width)
    for step in range(2):
        trainer.set_named_parameters({"W2": np.zeros((rows * width, 1))})
        trainer.fit(X, np.ones(rows, np.float32), batch_size=rows, shuffle=False)
        kept = -trainer.named_gradients()["W2"].reshape(rows, width) * rows * (1 - rate)
        for i, j in np.ndindex(rows, width):
            word = oracles.philox_word(11, step, DROPOUT + 1, (i * rows + i) * width + j)
            assert round(float(kept[i, j]), 5) == (word >= rate * 2**32), (step, i, j)


@every_way
def test_a_run_repeats_itself(way):
    for first, second in zip(trained(way), trained(way), strict=True):
        np.testing.assert_array_equal(first, second)


@every_way
@pytest.mark.parametrize("chunk_seconds", [0.0, 1e9])
def test_how_steps_are_cut_into_runs_makes_no_difference(way, chunk_seconds, monkeypatch):
    """A step a run, or runs that grow eightfold, whatever the clock says."""
    expected = trained(way)
    for mine, theirs in zip(trained(way, chunk_seconds, monkeypatch), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@every_way
def test_evaluation_does_not_disturb_training(way):
    X, y = data()
    plain, watched = make(way, *LAYERS), make(way, *LAYERS)
    plain.fit(X, y, epochs=3, batch_size=8)
    watched.fit(
        X, y, epochs=3, batch_size=8, validation_data=(X[:9], y[:9]),
        callbacks=[lambda trainer, record: trainer.predict(X[:5]) is None],
    )  # fmt: skip
    np.testing.assert_array_equal(plain.parameters(), watched.parameters())


def test_another_seed_is_another_run():
    assert not np.array_equal(trained("numpy")[0], trained("numpy", seed=1)[0])
