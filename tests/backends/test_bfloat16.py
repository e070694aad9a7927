"""precision="bf16" on the CPU: how near it comes to float32, and what of it is exact."""

import numpy as np
import pytest
from networks import WAYS, data, make, split_all
from sklearn.datasets import load_digits

from gpubp import Dense, Dropout, Sequential, Trainer
from gpubp.callbacks import Callback
from gpubp.errors import NonFiniteError
from gpubp.kernels import bfloat16
from gpubp.kernels.numba import gemm_bfloat16
from gpubp.plan.ir import PARAMS, ROUNDED

LAYERS = Dense(17, "relu"), Dropout(0.2), Dense(9, "tanh"), Dense(3)
ON_CPU = [way for way in WAYS if way != "cuda"]
every_way = pytest.mark.parametrize("way", ON_CPU)
PAIRS = [True] * gemm_bfloat16.SUITED_TO_PAIRS + [False]


@pytest.fixture(autouse=True)
def _split(monkeypatch):
    split_all(monkeypatch)


def trained(way, **settings):
    """Return a trainer after a run with dropout, shuffling and a partial minibatch."""
    trainer = make(way, *LAYERS, precision="bf16", **settings)
    trainer.fit(*data(), epochs=3, batch_size=8)
    return trainer


@every_way
def test_digits_are_learned_as_well_as_in_float32(way):
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    accuracy = {}
    for precision in ("fp32", "bf16"):
        trainer = make(way, Dense(32, "relu"), Dense(10), precision=precision)
        trainer.fit(X[:1400], y[:1400], epochs=12, batch_size=32)
        accuracy[precision] = trainer.evaluate(X[1400:], y[1400:])["accuracy"]
    assert accuracy["fp32"] > 0.85
    assert accuracy["bf16"] >= accuracy["fp32"] - 0.02


@every_way
def test_rounding_shows_and_is_bounded(way):
    X, _ = data()
    off = np.abs(trained(way).forward(X) - trained_exactly().forward(X)).max()
    assert 1e-4 < off < 2e-2


def trained_exactly():
    trainer = make("numpy", *LAYERS, precision="fp64")
    trainer.fit(*data(), epochs=3, batch_size=8)
    return trainer


@every_way
def test_weights_and_outputs_are_float32_and_products_read_their_rounding(way):
    trainer = trained(way)
    outputs = np.asarray(trainer.forward(data()[0]))
    assert (trainer.parameters().dtype, outputs.dtype) == (np.float32, np.float32)
    halves = trainer.parameters().view(np.uint32) & 0xFFFF
    assert np.count_nonzero(halves) > halves.size / 2, "weights were rounded"
    master, rounded = (np.asarray(trainer._engine.vectors[name]) for name in (PARAMS, ROUNDED))
    np.testing.assert_array_equal(rounded, bfloat16.from_float32(master))
    trainer.set_parameters(2 * trainer.parameters())
    master = np.asarray(trainer._engine.vectors[PARAMS])
    np.testing.assert_array_equal(
        np.asarray(trainer._engine.vectors[ROUNDED]), bfloat16.from_float32(master)
    )


@pytest.mark.parametrize("pairs", PAIRS)
def test_products_by_pairs_and_in_float32_train_alike(pairs, monkeypatch):
    expected = trained("numpy").parameters()
    monkeypatch.setattr(gemm_bfloat16, "SUITED_TO_PAIRS", pairs)
    trainer = trained("numba-2")
    trainer.validate(*data(), 8)
    np.testing.assert_allclose(trainer.parameters(), expected, rtol=0, atol=1.5e-2)


@every_way
def test_a_run_repeats_itself_however_it_is_cut(way, monkeypatch):
    first = trained(way).parameters()
    monkeypatch.setattr("gpubp.engine._CHUNK_SECONDS", 0.0)
    np.testing.assert_array_equal(trained(way).parameters(), first)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_make_no_difference_but_that_of_a_sum(threads):
    one, more = (trained(f"numba-{count}").parameters() for count in (1, threads))
    np.testing.assert_allclose(more, one, rtol=0, atol=5e-3)


class Interrupt(Callback):
    """Ctrl-C in the second epoch."""

    def on_progress(self, trainer, progress):
        if trainer.step == 7:
            raise KeyboardInterrupt


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_run_that_was_interrupted_ends_bit_for_bit_as_one_that_was_not(
    backend, tmp_path, monkeypatch
):
    monkeypatch.setattr("gpubp.engine._CHUNK_SECONDS", 0.0)
    X, y = data()

    def new():
        return Trainer(Sequential(*LAYERS), backend=backend, precision="bf16", threads=2, seed=3)

    straight, stopped = new(), new()
    straight.fit(X, y, epochs=4, batch_size=8)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(X, y, epochs=4, batch_size=8, callbacks=[Interrupt()])
    stopped.save(tmp_path / "model.safetensors")
    resumed = Trainer.load(tmp_path / "model.safetensors")
    assert (resumed.precision, resumed.backend_name) == ("bf16", backend)
    resumed.fit(X, y, epochs=4, batch_size=8, resume=True)
    np.testing.assert_array_equal(resumed.parameters(), straight.parameters())
    np.testing.assert_array_equal(resumed.history.column("loss"), straight.history.column("loss"))


@pytest.mark.parametrize("way", ["numpy", "numba-1", "numba-2"])
def test_features_beyond_bfloat16_are_seen_as_a_loss_that_is_not_finite(way):
    X, y = data()
    X[3, 2] = 3.4e38  # rounds to infinity
    trainer = make(way, *LAYERS, precision="bf16")
    with pytest.raises(NonFiniteError, match="the loss is not finite, first in"):
        trainer.fit(X, y, batch_size=8)
