"""The CUDA backend from end to end: graphs, device memory, streaming, precisions, devices.

It runs on stand-in devices, which execute the very CUDA sources as host code (host_cuda); what can
also be shown on a GPU runs there, too, where there is one.
"""

import re

import numpy as np
import pytest
from host_cuda import build
from host_cuda.arrays import DeviceArray
from host_cuda.driver import Machine
from networks import cuda_driver, data, on_driver, stand_in
from sklearn.datasets import load_digits

from gpubp import Dense, Dropout, Sequential, Trainer, check_gradients, devices
from gpubp.backends.cupy import StepsPerGraph
from gpubp.errors import CopyWarning, DeviceError, DeviceMemoryError, InputError
from gpubp.feed import Data

pytestmark = pytest.mark.skipif(bool(build.missing_compiler()), reason=build.missing_compiler())

LAYERS = Dense(16, "relu"), Dropout(0.2), Dense(9, "tanh"), Dense(3)
every_precision = pytest.mark.parametrize("precision", devices.PRECISIONS)


def cuda(*layers, driver=None, **settings):
    """Return a trainer on a GPU, or on a stand-in where there is none."""
    precision = settings.pop("precision", "fp32")
    trainer = Trainer(Sequential(*(layers or LAYERS)), backend="numpy", **settings)
    return on_driver(trainer, driver or cuda_driver(), precision)


def bits(trainer):
    """Return what a run leaves behind: parameters, losses and the optimizer's vectors."""
    with trainer._backend.active():
        state = [trainer._engine.read(name) for name in trainer.optimizer.state]
    return [trainer.parameters(), trainer.history.column("loss"), *state]


def assert_same(first, second):
    for mine, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, theirs)


class TestGraphs:
    @every_precision
    def test_replay_is_eager_execution_bit_for_bit(self, precision, monkeypatch):
        replayed = cuda(precision=precision)
        replayed.fit(*data(), epochs=3, batch_size=8)

        def eager(self, steps, per_graph):
            for _ in range(steps):
                self.step()

        monkeypatch.setattr("gpubp.backends.cupy.CupyExecutable._replay", eager)
        called = cuda(precision=precision)
        called.fit(*data(), epochs=3, batch_size=8)
        assert_same(bits(replayed), bits(called))

    @pytest.mark.parametrize("per_graph", [3, 16, 64])
    def test_steps_a_graph_make_no_difference(self, per_graph, monkeypatch):
        expected = cuda()
        expected.fit(*data(rows=300), epochs=2, batch_size=4)
        monkeypatch.setattr(StepsPerGraph, "measure", lambda self, *rest: 0)
        monkeypatch.setattr(
            StepsPerGraph, "__init__", lambda self: setattr(self, "best", per_graph)
        )
        trainer = cuda()
        trainer.fit(*data(rows=300), epochs=2, batch_size=4)
        assert_same(bits(trainer), bits(expected))

    def test_the_measurement_is_of_steps_that_count(self, monkeypatch):
        """The run is long enough to time both sizes of graph; every step is done once."""
        monkeypatch.setattr("gpubp.engine._CHUNK_SECONDS", 1e9)
        trainer = cuda(Dense(3))
        rows = 4 * (1 + StepsPerGraph.MANY + 2 * StepsPerGraph.SAMPLE)
        X, y = data(rows=10 * rows)
        trainer.fit(X, y, epochs=1, batch_size=4)
        (training,) = [e for e in trainer._engine._executables.values() if e.plan.update]
        assert training._per_graph._known
        assert trainer.step == len(X) // 4
        numpy = Trainer(Sequential(Dense(3)), backend="numpy")
        numpy.fit(X, y, epochs=1, batch_size=4)
        np.testing.assert_allclose(trainer.parameters(), numpy.parameters(), atol=2e-5)

    def test_a_thousand_steps_leave_device_memory_where_it_was(self):
        driver = cuda_driver()
        trainer = cuda(driver=driver)
        X, y = data(rows=200)
        fit = {"epochs": 1, "batch_size": 4, "validation_data": (X[:30], y[:30])}
        trainer.fit(X, y, **fit)
        with driver.active():
            before = driver.memory()
        for _ in range(20):
            trainer.fit(X, y, **fit)
        assert trainer.step == 21 * 50
        with driver.active():
            assert driver.memory() == before


class TestPrecisions:
    @every_precision
    def test_digits_are_learned_as_well_as_on_the_cpu(self, precision):
        X, y = load_digits(return_X_y=True)
        X = (X / 16).astype(np.float32)
        layers = Dense(32, "relu"), Dense(10)
        fit = {"epochs": 12, "batch_size": 32}
        here, there = cuda(*layers, precision=precision), Trainer(Sequential(*layers), device="cpu")
        for trainer in (here, there):
            trainer.fit(X[:1400], y[:1400], **fit)
        on_cpu, on_cuda = (t.evaluate(X[1400:], y[1400:])["accuracy"] for t in (there, here))
        assert on_cpu > 0.85
        assert on_cuda >= on_cpu - 0.02

    @pytest.mark.parametrize(("precision", "worst"), [("tf32", 2e-3), ("bf16", 2e-2)])
    def test_rounding_shows_and_is_bounded(self, precision, worst):
        exact, rounded = cuda(*LAYERS, precision="fp64"), cuda(*LAYERS, precision=precision)
        for trainer in (exact, rounded):
            trainer.fit(*data(), epochs=3, batch_size=8)
        off = np.abs(exact.forward(data()[0]) - rounded.forward(data()[0])).max()
        assert 1e-6 < off < worst

    def test_master_weights_and_outputs_of_bfloat16_are_float32(self):
        trainer = cuda(precision="bf16")
        trainer.fit(*data(), epochs=2, batch_size=8)
        assert trainer.parameters().dtype == np.float32
        assert trainer.forward(data()[0]).dtype == np.float32
        halves = trainer.parameters().view(np.uint32) & 0xFFFF
        assert np.count_nonzero(halves) > halves.size / 2, "weights were rounded"

    @every_precision
    def test_every_call_is_validated(self, precision):
        trainer = cuda(precision=precision)
        trainer.initialize(5)
        trainer.validate(*data(), batch_size=8)


LACKS = {
    "no epilogue": lambda gemm: gemm.epilogue != "",
    "no ReLU": lambda gemm: "relu" in gemm.epilogue,
    "no bias gradient": lambda gemm: "bias_grad" in gemm.epilogue,
    "no delta with bias gradient": lambda gemm: gemm.epilogue == "relu_delta_bias_grad",
}


def test_gradients_are_those_of_central_differences(monkeypatch):
    stand_in(monkeypatch)
    X, y = data(rows=12)
    report = check_gradients(Sequential(*LAYERS), "softmax_cross_entropy", X, y, device="cuda")
    assert report.passed, str(report)
    assert report.backend == "cupy"


class TestLackingProducts:
    """Where cuBLASLt has no epilogue for a shape and dtype, plain kernels do its work."""

    @pytest.mark.parametrize("lacks", LACKS.values(), ids=LACKS)
    def test_the_result_is_the_same(self, lacks):
        layers = Dense(16, "relu"), Dense(12, "relu"), Dense(3)
        machine = Machine()
        machine.lacks = lacks
        full, poor = cuda(*layers), cuda(*layers, driver=machine.drivers[0])
        for trainer in (full, poor):
            trainer.fit(*data(), epochs=2, batch_size=8)
        assert str(full.plan(8)) != str(poor.plan(8))
        np.testing.assert_allclose(full.parameters(), poor.parameters(), rtol=0, atol=5e-6)


WINDOWED = {
    "labels": {"y": None},
    "values and weights": {"loss": "squared_error", "weights": True},
    "held out": {"fraction": 0.25},
    "in order": {"shuffle": False},
}


class TestStreaming:
    """Data that do not fit on the device go through it in blocks, with the same bits."""

    @staticmethod
    def trained(capacity, rows=3000, loss="softmax_cross_entropy", fraction=0.0, **options):
        driver = Machine(capacity=capacity).drivers[0]
        X, y = data(loss, rows=rows, features=40)
        weights = np.linspace(0.1, 2, rows) if options.pop("weights", False) else None
        options.pop("y", None)
        trainer = cuda(Dense(6, "relu"), Dense(3), driver=driver, loss=loss)
        held_out = {"validation_fraction": fraction} if fraction else {}
        if not fraction:
            held_out = {"validation_data": (X[:2000], y[:2000])}
        trainer.fit(X, y, epochs=3, batch_size=64, sample_weight=weights, **held_out, **options)
        losses = [trainer.history.column(name) for name in ("loss", "val_loss")]
        metrics = trainer.evaluate(X, y, weights)
        return driver, [*bits(trainer), *losses, [*metrics.values()], trainer.forward(X)]

    @pytest.mark.parametrize("options", WINDOWED.values(), ids=WINDOWED)
    def test_the_same_bits_as_with_all_of_it_on_the_device(self, options, monkeypatch):
        for name in ("gpubp.engine.EVALUATION_ROWS", "gpubp.intake.EVALUATION_ROWS"):
            monkeypatch.setattr(name, 100)
        monkeypatch.setattr("gpubp.feed._BLOCK_BYTES", 40_000)  # some 250 rows
        windows = []
        through = Data._through_window
        monkeypatch.setattr(
            Data, "_through_window",
            lambda self, *rest: windows.append(through(self, *rest)) or windows[-1],
        )  # fmt: skip
        _, expected = self.trained(2**30, **options)
        assert not windows
        _, streamed = self.trained(520_000, **options)
        assert any(w.window.count > 4 * w.window.block for w in windows), "several blocks an epoch"
        assert_same(streamed, expected)

    def test_a_memory_map_that_is_larger_than_the_device(self, tmp_path):
        X, y = data(rows=20_000, features=100)
        np.save(tmp_path / "X.npy", X)
        mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
        driver = Machine(capacity=X.nbytes // 2).drivers[0]
        trainer = cuda(Dense(3), driver=driver)
        trainer.fit(mapped, y, epochs=1, batch_size=100)
        numpy = Trainer(Sequential(Dense(3)), backend="numpy")
        numpy.fit(X, y, epochs=1, batch_size=100)
        np.testing.assert_allclose(trainer.parameters(), numpy.parameters(), atol=1e-5)

    def test_what_is_on_the_device_stays_there_however_little_is_free(self):
        driver = Machine(capacity=700_000).drivers[0]
        X, _ = data(rows=3000, features=40)
        trainer = cuda(Dense(3), driver=driver)
        trainer.initialize(40)
        with driver.active():
            there = driver.upload(X)
            data_ = trainer._engine.placed(Data(there), "output")
        assert data_.window is None
        assert data_.x is there

    def test_labels_on_the_device_beside_data_that_stream_are_copied_and_it_is_said(self):
        driver = Machine(capacity=700_000).drivers[0]
        X, y = data(rows=3000, features=40)
        trainer, resident = cuda(Dense(3), driver=driver), cuda(Dense(3))
        with driver.active():
            labels = driver.upload(y)
        with pytest.warns(CopyWarning, match="y lies on the device"):
            trainer.fit(X, labels, batch_size=64)
        resident.fit(X, y, batch_size=64)
        assert_same(bits(trainer), bits(resident))


class TestTooLittleMemory:
    def small(self, **settings):
        return cuda(Dense(64, "relu"), Dense(3), driver=Machine(**settings).drivers[0])

    def test_said_before_training_with_what_fits(self):
        X, y = data(rows=4096, features=8)
        trainer = self.small(capacity=600_000)
        with pytest.raises(DeviceMemoryError) as caught:
            trainer.fit(X, y, batch_size=4096)
        message = str(caught.value)
        sizes = re.search(r"needs ([\d,]+) bytes .* and ([\d,]+) are free", message).groups()
        need, free = (int(size.replace(",", "")) for size in sizes)
        assert need > free
        assert trainer.step == 0
        fits = int(re.search(r"the largest batch_size that fits is (\d+)", message).group(1))
        with pytest.raises(DeviceMemoryError, match="needs"):
            trainer.fit(X, y, batch_size=fits + 1)
        trainer.fit(X, y, batch_size=fits)
        assert trainer.step == -(-4096 // fits)

    def test_nothing_fits(self):
        X, y = data(rows=64, features=8)
        trainer = self.small(capacity=40_000)
        with pytest.raises(DeviceMemoryError, match="no batch_size fits"):
            trainer.fit(X, y, batch_size=32)

    def test_parameters_do_not_fit(self):
        with pytest.raises(DeviceMemoryError):
            self.small(capacity=1000).initialize(8)

    def test_failing_half_way_keeps_the_last_good_state(self):
        """Somebody else takes the memory between two runs; the trainer is what it was."""
        X, y = data(rows=64, features=8)
        trainer = self.small(capacity=400_000)
        trainer.fit(X, y, epochs=2, batch_size=8)
        before = bits(trainer)
        driver = trainer._backend.driver
        with driver.active():
            taken = driver.zeros(driver.memory()[0] - 2000, "int8")
        with pytest.raises(DeviceMemoryError):
            trainer.fit(X, y, epochs=1, batch_size=32)
        assert_same(bits(trainer), before)
        del taken
        trainer.fit(X, y, epochs=1, batch_size=32)
        assert trainer.step == 2 * 8 + 2


class Foreign:
    """A device array of another library, known by its interface alone."""

    def __init__(self, array):
        self.array = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__


def reads(trainer, array):
    """Assert that training reads the very memory of an array."""
    training = next(e for e in trainer._engine._executables.values() if e.plan.update)
    data = [x.__cuda_array_interface__["data"] for x in (training.data["X"], array)]
    assert data[0] == data[1]


class TestArrays:
    def test_device_arrays_are_used_where_they_are(self, monkeypatch):
        machine = stand_in(monkeypatch)
        X, y = data()
        host, device = (Trainer(Sequential(*LAYERS), device="cuda") for _ in range(2))
        host.fit(X, y, epochs=2, batch_size=8)
        with machine.drivers[0].active():
            there = [machine.drivers[0].upload(array) for array in (X, y)]
        device.fit(*there, epochs=2, batch_size=8, callbacks=[lambda *_: reads(device, there[0])])
        assert_same(bits(device), bits(host))
        for ask in (device.predict, device.predict_proba, device.forward):
            assert isinstance(ask(there[0]), DeviceArray)
            assert type(ask(X)) is np.ndarray
            np.testing.assert_array_equal(ask(there[0]).values, ask(X))

    def test_arrays_of_another_library_come_in_without_a_copy(self, monkeypatch):
        machine = stand_in(monkeypatch)
        X, y = data()
        with machine.drivers[0].active():
            there = [Foreign(machine.drivers[0].upload(array)) for array in (X, y)]
        trainer = Trainer(Sequential(*LAYERS), device="cuda")
        watch = [lambda *_: reads(trainer, there[0])]
        trainer.fit(*there, epochs=1, batch_size=8, callbacks=watch)
        assert isinstance(trainer.predict(there[0]), DeviceArray)

    def test_an_array_on_another_device_is_refused(self, monkeypatch):
        machine = stand_in(monkeypatch, devices=2)
        X, y = data()
        with machine.drivers[1].active():
            there = Foreign(machine.drivers[1].upload(X))
        with pytest.raises((DeviceError, InputError)):
            Trainer(Sequential(*LAYERS), device="cuda:0").fit(there, y)


class TestDevices:
    def test_all_of_it_is_on_the_device_that_was_named(self, monkeypatch):
        machine = stand_in(monkeypatch, devices=2)
        trainer = Trainer(Sequential(*LAYERS), device="cuda:1")
        X, y = data()
        trainer.fit(X, y, epochs=2, batch_size=8, validation_fraction=0.2)
        trainer.predict(X)
        trainer.evaluate(X, y)
        trainer.trace(X, y, batch_size=8)
        assert trainer.device == "cuda:1"
        assert machine.drivers[0].known.used == 0 < machine.drivers[1].known.used
