"""Trainers that go from one device to another, in memory and by way of a file.

The GPUs are stand-ins: :mod:`host_cuda` in place of CuPy's driver, and a machine that lists two.
"""

import numpy as np
import pytest
from networks import data, stand_in

from gpubp import Dense, Dropout, Sequential, Trainer, devices
from gpubp.callbacks import Callback
from gpubp.errors import DeviceError, DeviceMemoryError, InputError
from gpubp.optimizers import OPTIMIZERS

LAYERS = Dense(7, "relu"), Dropout(0.3), Dense(3)
X, y = data()


@pytest.fixture(autouse=True)
def gpus(monkeypatch):
    """Stand for a machine with two GPUs; return it."""
    return stand_in(monkeypatch, devices=2, capacity=2**20)


@pytest.fixture
def no_gpu(monkeypatch):
    """Take the GPUs away, when called."""
    problem = "there is no NVIDIA driver; install one"
    return lambda: monkeypatch.setattr(devices, "cuda_problem", lambda index=0: problem)


class Interrupt(Callback):
    """Ctrl-C in the first epoch."""

    def on_progress(self, trainer, progress):
        raise KeyboardInterrupt


def interrupted(**settings):
    """Return a trainer in the middle of its first epoch."""
    trainer = Trainer(Sequential(*LAYERS), threads=1, seed=5, **settings)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, y, epochs=3, batch_size=8, callbacks=[Interrupt()])
    assert trainer.epoch == 0 < trainer.step
    return trainer


def numbers(trainer):
    """Return all that a trainer carries from step to step, on the host."""
    engine = trainer._trained()
    with trainer._backend.active():
        found = {name: engine.read(name) for name in ("params", "grads", *engine.optimizer.state)}
        progress = engine.progress()
    # Each share of a minibatch has a sum of its own; how many there are is the backend's affair.
    return found | progress | {"sums": sum(progress["sums"])}


def assert_equal(numbers, expected):
    assert numbers.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(numbers[name], value, err_msg=name, strict=True)


WAYS = {
    "numba-numpy": [("cpu", "numpy"), ("cpu", "numba")],
    "cpu-cuda": [("cuda", None), ("cpu", "numba")],
    "cuda-cuda": [("cuda:1", None), ("cuda:0", "cupy"), ("cuda:1", None), ("cpu", "numba")],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
def test_a_trainer_goes_round_and_on_as_if_it_had_stayed(way, optimizer, precision):
    """Every number arrives to the last bit, in the middle of an epoch at that."""
    settings = {"device": "cpu", "backend": "numba", "optimizer": optimizer, "precision": precision}
    stayed, moved = interrupted(**settings), interrupted(**settings)
    for device, backend in WAYS[way]:
        before = numbers(moved)
        assert moved.to(device, backend) is moved
        assert moved.device == device
        assert moved.backend_name == (backend or "cupy") == moved._backend.name
        assert f"{device} with {moved.backend_name}" in moved.device_reason
        assert_equal(numbers(moved), before)
        moved.predict(X)
    for trainer in (stayed, moved):
        trainer.fit(X, y, epochs=3, batch_size=8, resume=True)
    np.testing.assert_array_equal(moved.parameters(), stayed.parameters())
    np.testing.assert_array_equal(moved.history.column("loss"), stayed.history.column("loss"))


@pytest.mark.parametrize(("first", "then"), [("cpu", "cuda:1"), ("cuda", "cpu")])
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS])
def test_a_run_begun_on_one_device_ends_on_another(first, then, optimizer, tmp_path):
    """By a checkpoint, and to the result of the run that stayed, but for rounding."""
    stayed = interrupted(device=first, optimizer=optimizer, precision="fp64")
    stayed.save(tmp_path / "model.safetensors")
    moved = Trainer.load(tmp_path / "model.safetensors", device=then)
    assert (moved.device, moved._backend.name) == (then, devices.resolve(then).backend)
    # Gradients are not kept in a file: they are made anew before they are read.
    assert_equal(numbers(moved), numbers(stayed) | {"grads": 0 * moved.parameters()})
    for trainer in (stayed, moved):
        trainer.fit(X, y, epochs=3, batch_size=8, resume=True)
    np.testing.assert_allclose(moved.parameters(), stayed.parameters(), rtol=0, atol=1e-11)
    np.testing.assert_allclose(
        moved.history.column("loss"), stayed.history.column("loss"), rtol=1e-11
    )


class TestFiles:
    @pytest.fixture
    def saved(self, tmp_path):
        """Write a model that was trained on a GPU; return its file."""

        def save(precision):
            trainer = interrupted(device="cuda", precision=precision)
            trainer.save(tmp_path / "model.safetensors")
            return tmp_path / "model.safetensors", trainer.named_parameters()

        return save

    def test_it_goes_on_where_it_was_trained(self, saved):
        path, _ = saved("tf32")
        loaded = Trainer.load(path)
        assert loaded.device_reason == "cuda with cupy on stand-in 0 (as it was trained)"
        assert (loaded.precision, loaded._backend.tf32) == ("tf32", True)

    def test_without_a_gpu_the_reason_says_so(self, saved, no_gpu):
        path, weights = saved("fp32")
        no_gpu()
        loaded = Trainer.load(path)
        assert loaded.device_reason == (
            "cpu with numba (the model was trained with cupy, which can't be had here because "
            "there is no NVIDIA driver; install one)"
        )
        for name, values in loaded.named_parameters().items():
            np.testing.assert_array_equal(values, weights[name], strict=True)
        with pytest.raises(DeviceError, match="device 'cuda' can't be had: there is no NVIDIA"):
            Trainer.load(path, device="cuda")

    def test_a_precision_that_the_device_lacks(self, saved):
        """An error that names the way out."""
        path, _ = saved("tf32")
        with pytest.raises(InputError) as caught:
            Trainer.load(path, device="cpu")
        assert f"{path} was trained with precision 'tf32'" in str(caught.value)
        assert "precision='fp32' goes on with the same weights" in str(caught.value)

    @pytest.mark.parametrize("precision", ["tf32", "bf16"])
    @pytest.mark.parametrize("then", ["fp32", "bf16"])
    def test_another_precision_goes_on_with_the_same_weights(self, precision, then, saved):
        path, weights = saved(precision)
        loaded = Trainer.load(path, device="cpu", precision=then)
        assert loaded.precision == then
        for name, values in loaded.named_parameters().items():
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, weights[name], strict=True)
        loaded.fit(X, y, epochs=3, batch_size=8, resume=True)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"device": "cpu", "precision": "tf32"}, "'tf32' needs device 'cuda'"),
            ({"precision": "fp16"}, "unknown precision 'fp16'"),
            ({"device": "gpu"}, "unknown device 'gpu'"),
            ({"backend": "cuda"}, "unknown backend 'cuda'"),
            ({"device": "cuda", "backend": "numba"}, "'numba' computes on cpu, not on cuda"),
        ],
    )
    def test_what_is_asked_for_wrongly_is_not_the_files_fault(self, settings, words, saved):
        path, _ = saved("fp32")
        with pytest.raises(InputError, match=words):
            Trainer.load(path, **settings)


def test_tf32_does_not_leave_the_gpu():
    trainer = interrupted(device="cuda", precision="tf32")
    with pytest.raises(InputError, match="'tf32' needs device 'cuda', but this is cpu"):
        trainer.to("cpu")
    assert (trainer.device, trainer.precision) == ("cuda", "tf32")


def test_bf16_moves_with_its_float32_weights():
    trainer = interrupted(device="cuda", precision="bf16")
    weights, precision = trainer.named_parameters(), "bf16"
    for device, backend, another in [
        ("cpu", "numba", None),
        ("cpu", "numpy", None),
        ("cpu", "numba", "fp32"),
        ("cuda", None, "bf16"),
        ("cpu", "numba", None),
    ]:
        trainer.to(device, backend, precision=another)
        precision = another or precision
        assert trainer.precision == precision
        for name, values in trainer.named_parameters().items():
            np.testing.assert_array_equal(values, weights[name], strict=True)
    trainer.fit(X, y, epochs=3, batch_size=8, resume=True)


def test_a_new_trainer_moves_too():
    trainer = Trainer(Sequential(*LAYERS), device="cpu").to("cuda")
    assert trainer.features is None
    trainer.fit(X, y)
    assert trainer._backend.name == "cupy"


def test_a_move_that_fails_changes_nothing(gpus):
    trainer = interrupted(device="cpu", backend="numpy")
    before = vars(trainer).copy()
    with gpus.drivers[1].active():
        taken = gpus.drivers[1].zeros(2**20 - 512, "uint8")
    with pytest.raises(DeviceMemoryError):
        trainer.to("cuda:1")
    assert taken.shape
    with pytest.raises(InputError, match="unknown device"):
        trainer.to("gpu")
    assert vars(trainer) == before


def test_it_does_not_move_under_a_run():
    trainer = Trainer(Sequential(*LAYERS), device="cpu")
    with pytest.raises(InputError, match="can't move during fit"):
        trainer.fit(X, y, callbacks=[lambda trainer, record: trainer.to("cuda")])
