"""The two other modes of a plan: validated against the reference, traced call by call."""

from dataclasses import replace

import numpy as np
import pytest
from networks import WAYS, data, make, split_all

from gpubp import Activation, Dense, Dropout
from gpubp.backends.numpy import NumpyExecutable
from gpubp.callbacks import Callback
from gpubp.errors import InputError, PlanError
from gpubp.kernels.numba import entry
from gpubp.losses import LOSSES
from gpubp.optimizers import OPTIMIZERS

every_way = pytest.mark.parametrize("way", WAYS)
LAYERS = Dense(9, "tanh"), Dropout(0.3), Activation("gelu"), Dense(3)


def ready(way, *layers, **settings):
    trainer = make(way, *(layers or LAYERS), **settings)
    trainer.initialize(5)
    return trainer


@every_way
@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
def test_a_sound_step_is_valid(way, precision):
    ready(way, precision=precision, l1=0.1, l2=0.1, clip_norm=0.1).validate(*data(), 8)


@pytest.mark.parametrize("loss", [*LOSSES])
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS])
def test_every_loss_and_optimizer_is_valid(loss, optimizer):
    ready("numba-1", loss=loss, optimizer=optimizer).validate(*data(loss), 8)


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        ("gather", r"call 1, gather \(x = X\[.*\): x = x\[8,5\] is off by 0.001 of its largest"),
        ("gelu", r"call \d+, gelu \(a3 = gelu\(a2\)\): a = a3\[8,9\] is off by 0.001"),
        ("tanh_delta", r"call \d+, tanh_delta .* dz = dz1\[8,9\] is off by 0.001"),
        ("adam", r"call \d+, adam .* params = params\[84\] is off by 0.001"),
        ("advance", r"call \d+, advance .* step = step\[1\] is off by 1"),
    ],
)
def test_a_call_that_is_off_is_named(kernel, words, monkeypatch):
    """A part in a thousand, or one in a count."""
    sabotage(monkeypatch, kernel, lambda last: last * 1.001 if last.dtype.kind == "f" else last + 1)
    with pytest.raises(PlanError, match=words):
        ready("numpy").validate(*data(), 8)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_result_that_is_not_finite_where_it_should_be_is_off(value, monkeypatch):
    sabotage(monkeypatch, "gelu", lambda last: np.full_like(last, value))
    with pytest.raises(PlanError, match=r"gelu .* is off by inf"):
        ready("numpy").validate(*data(), 8)


def sabotage(monkeypatch, kernel, change):
    """Have the NumPy backend change the last operand of a kernel after each call."""
    real = NumpyExecutable._function

    def function(self, call):
        good = real(self, call)

        def off():
            good()
            last = self.operand(call.operands[-1])
            last[...] = change(last)

        return off if call.kernel == kernel else good

    monkeypatch.setattr(NumpyExecutable, "_function", function)


@pytest.mark.parametrize("instead", ["bias_silu", "bias_exponential"])
def test_compiled_code_that_is_off_is_named(instead, monkeypatch):
    """Another kernel in the place of gelu, one whose result is even infinite."""
    real = entry.address
    X, y = data()

    def swapped(variant):
        return real(replace(variant, kernel=instead) if variant.kernel == "bias_gelu" else variant)

    trainer = ready("numba-1", Dense(9, "gelu"), Dense(3))
    trainer.validate(500 * X, y, 8)
    monkeypatch.setattr(entry, "address", swapped)
    with pytest.raises(PlanError, match=r"call 4, bias_gelu .* (z = z1|a = a1)\[8,9\] is off"):
        trainer.validate(500 * X, y, 8)


@every_way
def test_a_trace_has_a_line_for_every_call(way):
    trainer = ready(way)
    trace = trainer.trace(*data(), 8)
    calls = trainer.plan(8).calls
    assert [timing.call.kernel for timing in trace.timings] == [call.kernel for call in calls]
    assert all(timing.seconds > 0 for timing in trace.timings)
    assert trace.seconds == pytest.approx(sum(timing.seconds for timing in trace.timings))
    lines = str(trace).splitlines()
    assert lines[0].split() == ["µs", "share", "GFLOP/s", "GB/s", "call"]
    for call, line in zip(calls, lines[1:-1], strict=True):
        assert line.endswith(call.formula)


def test_the_rates_of_a_trace():
    product = next(
        timing for timing in ready("numpy").trace(*data(), 8).timings if timing.call.flops > 300
    )
    assert product.gflops == pytest.approx(product.call.flops / product.seconds / 1e9)
    assert product.gbytes == pytest.approx(product.call.bytes / product.seconds / 1e9)


@every_way
@pytest.mark.parametrize("mode", ["validate", "trace"])
def test_a_mode_leaves_the_trainer_as_it_was(way, mode, monkeypatch):
    """Even in the middle of an epoch."""
    split_all(monkeypatch)
    monkeypatch.setattr("gpubp.engine._CHUNK_SECONDS", 0.0)
    X, y = data()

    class Interrupt(Callback):
        def on_progress(self, trainer, progress):
            if trainer.step == 7:
                raise KeyboardInterrupt

    finals = []
    for looks in (False, True):
        trainer = ready(way)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(X, y, epochs=3, batch_size=8, callbacks=[Interrupt()])
        if looks:
            getattr(trainer, mode)(X, y, 8)
        trainer.fit(X, y, epochs=3, batch_size=8, resume=True)
        finals.append((trainer.parameters(), trainer.history.column("loss")))
    for plain, looked in zip(*finals, strict=True):
        np.testing.assert_array_equal(plain, looked)


@pytest.mark.parametrize("mode", ["validate", "trace"])
def test_a_minibatch_larger_than_the_data_is_refused(mode):
    with pytest.raises(InputError, match="batch_size is 38, but there are 37 rows"):
        getattr(ready("numpy"), mode)(*data(), 38)
