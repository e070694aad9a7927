"""What the Numba backend chooses: right in every way, made once a machine, kept, shown, fixed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from networks import data

from gpubp import Dense, Sequential, Trainer, checkpoint, state
from gpubp.backends import kept, numba_choices, numba_measure
from gpubp.backends.numba import NumbaExecutable
from gpubp.backends.numba_choices import Choice, name_of, typical
from gpubp.backends.numba_program import aligned, dtypes_of, make_row
from gpubp.callbacks import Callback
from gpubp.errors import CheckpointError, DeviceError, InputError
from gpubp.kernels.bfloat16 import from_float32, to_float32
from gpubp.kernels.numba import blas, compiled, gemm, mkl
from gpubp.plan.ir import TRANSIENT, Buffer, Call

ROUTINES = ("tiles", "blas", "mkl")


@pytest.fixture
def with_mkl(monkeypatch):
    """MKL, or where it is not installed SciPy's BLAS in its place."""
    if mkl.library() is None:
        monkeypatch.setattr(mkl, "library", lambda: Path(__file__))
        monkeypatch.setattr(mkl, "address", blas.address)


@pytest.fixture
def without_mkl(monkeypatch):
    monkeypatch.setattr(mkl, "library", lambda: None)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine on which nothing was measured, and where a test says how long things take.

    It is called with the routine and the number of shares that are the fastest here.
    """

    def install(routine="tiles", shares="1", name="here"):
        monkeypatch.setattr(numba_choices, "_kept", lambda: kept.Kept(tmp_path / name))
        measured = []

        def times(names, fastest):
            measured.append(fastest)
            return {str(name): 1e-6 if str(name) == fastest else 2e-6 for name in names}

        monkeypatch.setattr(numba_measure, "routines", lambda call, names: times(names, routine))
        monkeypatch.setattr(numba_measure, "steps", lambda made: times(made, shares))
        return measured

    return install


def product(kernel, rows, inner, columns, *flags, dtype="float32", wide=None):
    """A call of a product on buffers; ``wide`` is the dtype of c and bias if it is another."""
    a = (inner, rows) if "transpose_a" in flags else (rows, inner)
    b = (columns, inner) if "transpose_b" in flags else (inner, columns)
    shapes = [a, b, *([(columns,)] if "bias" in kernel else []), (rows, columns)]
    buffers = [
        Buffer("abcd"[i], shape, dtype if i < 2 else wide or dtype, TRANSIENT)
        for i, shape in enumerate(shapes)
    ]
    mask = [None] if kernel == "matmul_bias_relu" else []
    return Call(kernel, (*buffers, *mask), tuple((flag, True) for flag in flags))


def as_row(call, views, routine):
    return make_row(call.kernel, views, dtypes_of(call), dict(call.scalars), routine)


def computed(call, operands):
    """Return what a product is to leave in c, in float64; of its operands that are there."""
    a, b, *bias, c = (x.astype(np.float64) for x in operands)
    flags = dict(call.scalars)
    result = (a.T if flags.get("transpose_a") else a) @ (b.T if flags.get("transpose_b") else b)
    result += c if flags.get("accumulate") else 0
    result = result + bias[0] if bias else result
    return np.maximum(result, 0) if "relu" in call.kernel else result


def run_by(routine, call, views):
    """Run a product by a routine; return c."""
    row = as_row(call, views, routine)
    with blas.one_thread():
        compiled.c_function(row.address)(row.words.ctypes.data)
    names = [operand.name for operand in call.contract.operands]
    return views[names.index("c")]


KERNELS = {
    "matmul": ((), ("transpose_a",), ("transpose_b",), ("accumulate",)),
    "matmul_bias": ((), ("transpose_a",), ("transpose_b",)),
    "matmul_bias_relu": ((), ("transpose_a",), ("transpose_b",)),
}


@pytest.mark.parametrize("routine", ROUTINES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kernel", "flags"), [(k, f) for k in KERNELS for f in KERNELS[k]])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 3, 2), (33, 50, 17), (4, 0, 5), (64, 70, 48)])
def test_every_routine_computes_every_product(routine, dtype, kernel, flags, shape, with_mkl):
    rng = np.random.default_rng(1)
    call = product(kernel, *shape, *flags, dtype=dtype)
    views = [
        None if x is None else rng.standard_normal(x.shape).astype(dtype) for x in call.operands
    ]
    expected = computed(call, [view for view in views if view is not None])
    result = run_by(routine, call, views)
    np.testing.assert_allclose(result, expected, rtol=0, atol=200 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    "routine",
    ["tiles", pytest.param("mkl", marks=pytest.mark.skipif(not mkl.library(), reason="no MKL"))],
)
@pytest.mark.parametrize(
    ("kernel", "wide", "flags"),
    [
        (kernel, wide, flags)
        for kernel in KERNELS
        for wide in (["bfloat16"] if "relu" in kernel else ["bfloat16", "float32"])
        for flags in KERNELS[kernel]
    ],
)
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 3, 2), (33, 51, 17), (4, 0, 5), (300, 70, 800)])
def test_products_of_bfloat16_are_rounded_once(routine, wide, kernel, flags, shape):
    """Bias and ReLU come before that; the largest shape is beyond a block in rows and columns."""
    rng = np.random.default_rng(1)
    call = product(kernel, *shape, *flags, dtype="bfloat16", wide=wide)
    values = [x and rng.standard_normal(x.shape).astype(np.float32) for x in call.operands]
    views = [
        x and (from_float32(v) if x.dtype == "bfloat16" else v)
        for x, v in zip(call.operands, values, strict=True)
    ]
    operands = zip(call.operands, views, strict=True)
    exact = [to_float32(v) if x.dtype == "bfloat16" else v.copy() for x, v in operands if x]
    expected = computed(call, exact)
    result = run_by(routine, call, views)
    result = to_float32(result) if wide == "bfloat16" else result
    rounding = 1.01 * 2.0**-8 if wide == "bfloat16" else 0.0  # half a unit in the last place
    np.testing.assert_allclose(result, expected, rtol=rounding, atol=1e-4)


def test_a_routine_that_has_no_bfloat16_is_refused():
    trainer = make(gemm="blas", precision="bf16")
    trainer.initialize(5)
    with pytest.raises(InputError, match="gemm 'blas' has no products of bfloat16; use 'auto' or"):
        trainer.fit(*data(), batch_size=16)


def test_a_product_goes_to_the_routine_that_is_named():
    call = product("matmul", 8, 8, 8)
    views = [aligned(64, "float32").reshape(8, 8) for _ in range(3)]
    assert as_row(call, views, "tiles").words[-2:].tolist() == [gemm.address("float32"), 0]
    assert as_row(call, views, "blas").words[-2:].tolist() == [0, blas.address("float32")]


@pytest.mark.skipif(mkl.library() is None, reason="pip install 'gpubp[mkl]'")
def test_mkl_is_loaded_without_threads_of_its_own():
    """Its usual layer ends the process where the OpenMP library is not found."""
    code = (
        "from gpubp.kernels.numba import mkl; import ctypes\n"
        "assert not mkl.is_loaded()\n"
        "address = mkl.address('float32')\n"
        "assert mkl.is_loaded()\n"
        "mkl._loaded().MKL_Get_Max_Threads()\n"
        "print(open('/proc/self/maps').read())"
    )
    maps = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mkl_sequential" in maps.stdout
    assert "iomp" not in maps.stdout


def test_products_that_differ_by_rows_of_the_minibatch_are_measured_as_one():
    names = {name_of(typical(product("matmul_bias_relu", rows, 784, 256))) for rows in (33, 50, 64)}
    assert names == {"matmul_bias_relu-64x784x256-float32"}
    gradient = typical(product("matmul", 784, 50, 256, "transpose_a"))
    assert name_of(gradient) == "matmul-784x64x256-float32-transpose_a"
    assert gradient.operands[0].shape == (64, 784)
    back = typical(product("matmul", 1000, 256, 784, "transpose_b", dtype="float64"))
    assert name_of(back) == "matmul-256x256x784-float64-transpose_b"
    assert back.operands[1].shape == (784, 256)
    assert typical(back) == back


def test_a_measurement_has_a_time_for_each_routine(with_mkl):
    call = product("matmul_bias_relu", 32, 20, 10)
    times = numba_measure.routines(call, ROUTINES)
    assert list(times) == list(ROUTINES)
    assert all(0 < seconds < 1 for seconds in times.values())


def choose(times):
    return numba_choices._best("product", "by", "tiles", ROUTINES, lambda: times)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"tiles": 1.0, "blas": 0.96, "mkl": 0.97}, "tiles"),  # not clearly faster
        ({"tiles": 1.0, "blas": 0.94, "mkl": 0.93}, "mkl"),
        ({"tiles": 1.0, "blas": 2.0}, "tiles"),
        ({"blas": 0.1}, "tiles"),  # the usual one could not be measured
        ({}, "tiles"),
    ],
)
def test_another_way_than_the_rule_s_must_be_clearly_faster(times, expected, machine):
    machine()
    assert choose(times).name == expected
    assert ("measured" in choose(times).why) == ("tiles" in times)


def test_a_cache_folder_that_cannot_be_made_is_no_place(monkeypatch, tmp_path):
    numba_choices._kept.cache_clear()
    monkeypatch.setattr(compiled, "folder", lambda: tmp_path / "numba-abc")
    assert numba_choices._kept() is None
    assert choose({"tiles": 1.0, "blas": 0.1}) == Choice("tiles", "by the rule")
    (tmp_path / "numba-abc").mkdir()
    numba_choices._kept.cache_clear()
    assert numba_choices._kept().folder.parent == tmp_path / "numba-abc"
    numba_choices._kept.cache_clear()


def test_other_libraries_are_measured_anew(monkeypatch, tmp_path):
    """MKL that is installed later may be chosen, and what was kept before is left alone."""
    places = set()
    for libraries in ("SciPy 1, no MKL", "SciPy 1, MKL", "SciPy 2, MKL"):
        monkeypatch.setattr(blas, "libraries", lambda: libraries)  # noqa: B023
        numba_choices._kept.cache_clear()
        places.add(numba_choices._kept().folder)
    numba_choices._kept.cache_clear()
    assert len(places) == 3


LAYERS = Dense(24, "relu"), Dense(17, "tanh"), Dense(3)


@pytest.fixture(autouse=True)
def _64_rows_are_near_the_border(monkeypatch):
    monkeypatch.setattr(numba_choices, "MINIMUM_FLOPS", 100_000)


def make(threads=2, seed=4, **settings):
    return Trainer(Sequential(*LAYERS), backend="numba", threads=threads, seed=seed, **settings)


def trained(trainer, epochs=2, batch_size=16):
    trainer.fit(*data(rows=100), epochs=epochs, batch_size=batch_size)
    return trainer.parameters()


class TestChoices:
    def test_a_machine_measures_once(self, machine):
        measured = machine("blas")
        first = trained(make())
        assert measured
        measured.clear()
        np.testing.assert_array_equal(trained(make()), first)
        assert not measured

    @pytest.mark.parametrize("fastest", ROUTINES)
    def test_the_fastest_computes(self, fastest, machine, with_mkl):
        machine(fastest)
        trainer = make(threads=1)
        expected = trained(trainer)
        assert set(trainer._backend.choices()["products"].values()) == {fastest}
        np.testing.assert_array_equal(trained(make(threads=1, gemm=fastest)), expected)

    def test_without_mkl_nothing_is_said_of_it(self, machine, without_mkl):
        machine("mkl")
        trainer = make()
        trained(trainer)
        assert "mkl" not in trainer.explain(16)

    def test_the_rule_is_kept_where_it_is_clear(self, machine):
        """A step of few operations has one share, and one of many two; between, it is measured."""
        measured = machine(shares="2 by rows")
        assert plans(8) == [8]
        assert not measured
        assert plans(64) == [32, 32]
        assert measured == ["2 by rows"]
        machine(shares="1", name="elsewhere")
        assert plans(64) == [64]
        assert plans(512) == [512]
        assert plans(8192) == [4096, 4096]

    def test_measuring_leaves_everything_as_it_was(self, monkeypatch, tmp_path):
        monkeypatch.setattr(numba_choices, "_kept", lambda: kept.Kept(tmp_path))
        X, y = data(rows=100)
        X.flags.writeable = y.flags.writeable = False
        trainer = make()
        trainer.initialize(5)
        before = trainer.parameters()
        trainer.explain(64)
        assert list(tmp_path.glob("step-*"))
        assert list(tmp_path.glob("matmul*"))
        trainer.predict(X)
        np.testing.assert_array_equal(trainer.parameters(), before)
        assert trainer.step == 0

    def test_steps_that_take_long_are_run_a_few_times(self, monkeypatch, tmp_path):
        monkeypatch.setattr(numba_choices, "_kept", lambda: kept.Kept(tmp_path))
        monkeypatch.setattr(numba_measure, "_STEPS_SECONDS", 0.0)
        monkeypatch.setattr(numba_measure, "_TURN_OF_STEPS_SECONDS", 0.0)
        run, segment = [], NumbaExecutable.segment
        monkeypatch.setattr(
            NumbaExecutable,
            "segment",
            lambda self, parallel, steps: run.append(steps) or segment(self, parallel, steps),
        )
        trainer = make()
        trainer.initialize(5)
        trainer.explain(64)
        assert len(run) == 2 * 3  # of one share, and of two side by side or in turn
        assert set(run) == {1}

    def test_threads_that_had_to_wait_say_nothing(self, monkeypatch, tmp_path):
        monkeypatch.setattr(numba_choices, "_kept", lambda: kept.Kept(tmp_path))
        monkeypatch.setattr(numba_measure, "_UNDISTURBED", 1e9)
        trainer = make()
        trainer.initialize(5)
        assert "shares of a step: 2 by rows (by the rule)" in trainer.explain(64)


def plans(rows, **settings):
    """Return the rows of each share of a minibatch."""
    trainer = make(**settings)
    trainer.initialize(5)
    made = trainer._engine._plans("training", trainer._usual_inputs(), rows, True)
    return [plan.rows for plan in made]


class TestFixed:
    @pytest.mark.parametrize("routine", ["tiles", "blas"])
    def test_the_user_s_routine_computes_all(self, routine, machine):
        measured = machine("mkl")
        trainer = make(gemm=routine, shares=1)
        trained(trainer)
        text = trainer.explain(16)
        assert text.count(f"by {routine} (as asked)") == text.count("matmul") > 0
        assert "shares of a step: 1 (as asked)" in text
        assert not measured

    def test_the_user_s_shares_are_made_where_there_are_rows(self, machine):
        machine()
        assert plans(7, threads=3, shares=3) == [2, 2, 3]
        assert plans(2, threads=3, shares=3) == [1, 1]
        trained(make(threads=3, shares=3), batch_size=7)

    def test_what_cannot_be_had_is_said_with_the_remedy(self, without_mkl):
        with pytest.raises(DeviceError, match=r"MKL is not installed; pip install 'gpubp\[mkl\]'"):
            make(gemm="mkl")

    @pytest.mark.parametrize("backend", ["numba", "numpy"])
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"gemm": "tile"}, "unknown gemm 'tile'; did you mean 'tiles'"),
            ({"shares": 0}, "shares must be a whole number from 1 to the number of threads, 2"),
            ({"shares": 3}, "got 3"),
            ({"shares": True}, "got True"),
        ],
    )
    def test_wrong_settings_are_refused(self, backend, settings, said):
        with pytest.raises(InputError, match=said):
            Trainer(Sequential(*LAYERS), backend=backend, threads=2, **settings)


class Interrupt(Callback):
    """Presses Ctrl-C in the second epoch."""

    def on_progress(self, trainer, progress):
        if trainer.epoch == 1:
            raise KeyboardInterrupt


class TestCheckpoint:
    @pytest.fixture
    def saved(self, machine, tmp_path):
        """An interrupted run on a machine where BLAS and one share are the fastest.

        And how it ends if it goes on.
        """
        machine("blas", "1")
        path = tmp_path / "model.gpubp"
        trainer = make()
        X, y = data(rows=1000)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(X, y, epochs=3, batch_size=64, callbacks=[Interrupt()])
        trainer.save(path)
        trainer.fit(X, y, epochs=3, batch_size=64, resume=True)
        return path, trainer.parameters()

    def resumed(self, path, **settings):
        trainer = Trainer.load(path, **settings)
        trainer.fit(*data(rows=1000), epochs=3, batch_size=64, resume=True)
        return trainer

    def test_a_run_goes_on_to_the_bit_where_other_ways_are_the_fastest(self, saved, machine):
        path, expected = saved
        machine("tiles", "2 by rows", name="elsewhere")
        trainer = self.resumed(path)
        np.testing.assert_array_equal(trainer.parameters(), expected)
        assert "by blas (as in the checkpoint)" in trainer.explain(64)
        assert "shares of a step: 1 (as in the checkpoint)" in trainer.explain(64)

    @pytest.mark.parametrize("anew", [{"gemm": "auto"}, {"threads": 2}, {"shares": 2}])
    def test_what_is_named_anew_is_chosen_anew(self, anew, saved, machine):
        """So the test above has something to find."""
        path, expected = saved
        machine("tiles", "2 by rows", name="elsewhere")
        assert not np.array_equal(self.resumed(path, **anew).parameters(), expected)

    def test_choices_go_along_through_other_backends(self, saved, machine, tmp_path):
        path, expected = saved
        machine("tiles", "2 by rows", name="elsewhere")
        moved = Trainer.load(path, backend="numpy").to("cpu", "numpy")
        moved.save(tmp_path / "moved.gpubp")
        trainer = Trainer.load(tmp_path / "moved.gpubp", backend="numba")
        trainer.to("cpu", "numba")
        trainer.fit(*data(rows=1000), epochs=3, batch_size=64, resume=True)
        np.testing.assert_array_equal(trainer.parameters(), expected)

    def test_settings_come_back(self, tmp_path, without_mkl):
        trainer = make(threads=3, gemm="tiles", shares=2)
        trainer.initialize(5)
        trainer.save(tmp_path / "model.gpubp")
        loaded = Trainer.load(tmp_path / "model.gpubp")
        assert (loaded.gemm, loaded.shares, loaded.threads) == ("tiles", 2, 3)
        again = Trainer.load(tmp_path / "model.gpubp", gemm="blas", shares=1)
        assert (again.gemm, again.shares, again.threads) == ("blas", 1, 3)
        with pytest.raises(InputError, match=r"shares must be .* number of threads, 1.* got 2"):
            Trainer.load(tmp_path / "model.gpubp", threads=1)
        with pytest.raises(InputError, match="unknown gemm"):
            Trainer.load(tmp_path / "model.gpubp", gemm="gold")
        with pytest.raises(DeviceError, match="MKL is not installed"):
            Trainer.load(tmp_path / "model.gpubp", gemm="mkl")

    def test_mkl_that_is_no_longer_there_is_said(self, machine, with_mkl, monkeypatch, tmp_path):
        machine("mkl")
        trainer = make()
        trained(trainer)
        trainer.save(tmp_path / "model.gpubp")
        monkeypatch.setattr(mkl, "library", lambda: None)
        machine("tiles", name="elsewhere")
        with pytest.warns(RuntimeWarning, match=r"by MKL, which is not installed.*gpubp\[mkl\]"):
            trained(Trainer.load(tmp_path / "model.gpubp"))
        trained(Trainer.load(tmp_path / "model.gpubp", gemm="auto"))  # warnings are errors here

    @pytest.mark.parametrize(
        "choices", [{"products": {"p": "gold"}}, {"shares": {"16": "9"}}, {"shares": {"16": 1}}, 3]
    )
    def test_choices_that_cannot_be_are_refused(self, choices, tmp_path):
        trainer = make()
        trainer.initialize(5)
        tensors, document = state.collect(trainer)
        checkpoint.save(tmp_path / "model.gpubp", tensors, document | {"choices": choices})
        with pytest.raises(CheckpointError, match="does not describe a network"):
            Trainer.load(tmp_path / "model.gpubp")


def test_explain_shows_what_was_measured(machine):
    machine("blas", "2 by rows")
    trainer = make()
    trainer.initialize(5)
    head, *lines = [line for line in trainer.explain(64).splitlines() if line][1:]
    measured = "measured: 1 µs with 2 by rows, 2 µs with 1"
    assert head == f"shares of a step: 2 by rows ({measured}); threads: 2 at most"
    products = [line for line in lines if "matmul" in line]
    assert all("   by blas (measured: 2 µs by tiles, 1 µs by blas" in line for line in products)
    assert len(products) == 8
    plan = str(trainer.plan(64))
    assert "measured" not in plan
    assert plan.splitlines()[-1] == trainer.explain(64).splitlines()[-1]


def test_explain_of_a_backend_without_a_choice_is_the_plan():
    trainer = Trainer(Sequential(*LAYERS), backend="numpy")
    trainer.initialize(5)
    assert trainer.explain(16) == str(trainer.plan(16))
