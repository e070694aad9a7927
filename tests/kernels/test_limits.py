"""What a kernel does at the limits of its arithmetic and of its contract."""

import mpmath
import numpy as np
import pytest
from runners import evaluate, every_backend

import gpubp
from gpubp import ops
from gpubp.errors import InputError, OperandError
from gpubp.kernels.spec import KERNELS
from gpubp.optimizers import SGD

mpmath.mp.dps = 60  # of the process: tests/edges.py has as many
LOSSES = [kernel.name for kernel in KERNELS.values() if kernel.family == "loss"]
WITH_CLASSES = [k.name for k in KERNELS.values() if any("K" in o.axes for o in k.operands)]

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
both_backends = pytest.mark.parametrize("backend", ["numpy", "numba"])


@every_backend
@both_dtypes
@pytest.mark.parametrize("name", LOSSES)
def test_a_row_without_weight_is_left_out(run, name, dtype):
    """Whatever stands in it; classes few and many, outputs one and more."""
    rng = np.random.default_rng(0)
    for columns in (1, 3, 20):
        z, t = rng.random((2, 70, columns)).astype(dtype)
        labels = rng.integers(0, columns, 70)
        weights = rng.uniform(0.5, 2, 70).astype(dtype)
        weights[::3] = 0
        kept = weights != 0
        target = KERNELS[name].operands[1].name
        values = {"t": t, "labels": labels}[target]
        alone = {target: values[kept], "z": z[kept], "weights": weights[kept]}
        alone = evaluate(run, name, scale=0.7, **alone)
        for poison in (np.nan, np.inf, -np.inf, 1e38):
            z[~kept] = poison
            if target == "t":
                values[~kept] = poison
            whole = {target: values, "z": z.copy(), "weights": weights}
            whole = evaluate(run, name, scale=0.7, **whole)
            np.testing.assert_allclose(whole["loss"], alone["loss"], rtol=1e-6)
            np.testing.assert_allclose(whole["dz"][kept], alone["dz"], rtol=1e-6)
            assert (whole["dz"][~kept] == 0).all()


@every_backend
def test_losses_are_summed_in_float64(run):
    """Two that are finite in float32, and their sum is not; many small ones beside a large one."""
    z, t = np.full((3000, 1), 2e19, np.float32), np.zeros((3000, 1), np.float32)
    loss = evaluate(run, "squared_error", z=z, t=t)["loss"]
    np.testing.assert_allclose(loss, 3000 * 0.5 * float(z[0, 0]) ** 2, rtol=1e-6)
    weights = np.full(3000, 1e10, np.float32)
    loss = evaluate(run, "squared_error", z=z, t=t, weights=weights)["loss"]
    np.testing.assert_allclose(loss, 3000 * 1e10 * 0.5 * float(z[0, 0]) ** 2, rtol=1e-6)
    z = np.ones((2000, 1), np.float32)
    z[0] = 2**30
    loss = evaluate(run, "absolute_error", z=z, t=t[:2000])["loss"]
    assert loss == 2**30 + 1999


@both_backends
def test_a_large_loss_trains(backend):
    """64 losses of 1.25e37 each, whose sum float32 has not."""
    X = np.random.default_rng(0).normal(size=(64, 3))
    trainer = gpubp.Trainer(
        gpubp.Sequential(gpubp.Dense(1)), "squared_error", SGD(lr=1e-3), device="cpu",
        backend=backend,
    )  # fmt: skip
    history = trainer.fit(X, np.full(64, 5e18), batch_size=64)
    assert history[-1]["loss"] == pytest.approx(1.25e37, rel=1e-6)


@every_backend
@both_dtypes
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_far_out(run, name, dtype):
    """Rows of few and of many classes, against numbers of 40 digits."""
    row = [0, 88.9, -104.5, 709, 746, 1e-30, -0.0]
    for classes in (7, 21):
        for shift in (0, 1000, -3e37):
            z = np.resize(np.array(row, dtype), (1, classes)) + np.array(shift, dtype)
            a = evaluate(run, name, z=z)["a"][0]
            top = mpmath.mpf(float(z.max()))
            logits = [mpmath.mpf(float(x)) - top for x in z[0]]
            log_total = mpmath.log(mpmath.fsum(mpmath.exp(x) for x in logits))
            right = [x - log_total for x in logits]
            # Of exp(x) an error of x is one of |x| units; a sum that has a 1 in it is right to an
            # ulp of 1, and so is its logarithm.
            relative, absolute = 1000 * np.finfo(dtype).eps, 2 * np.finfo(dtype).eps
            if name == "softmax":
                right = [mpmath.exp(x) for x in right]
                absolute = 2 * np.finfo(dtype).smallest_subnormal
            right = np.array([float(x) for x in right])
            np.testing.assert_allclose(a, right, rtol=relative, atol=absolute)


@every_backend
@both_dtypes
def test_a_gradient_of_any_size_is_clipped_to_its_norm(run, dtype):
    """Squares of 1e25 are no float32, those of 1e-25 are 0 there; 1e-30 / 1e38 is no float32."""
    for size in (1e25, 1e-25, 1e38, 1e-37):
        for limit in (1.0, 1e-30):
            grads = np.array([3, -4, 0], dtype) * np.array(size / 5, dtype)
            squares = evaluate(run, "sum_of_squares", x=grads)["total"]
            assert squares == pytest.approx(size**2, rel=1e-6)
            right = grads.astype("float64") * min(1, limit / size)
            out = evaluate(run, "clip_norm", squares=squares, grads=grads.copy(), limit=limit)
            np.testing.assert_allclose(out["grads"], right, rtol=1e-6)
            updated = evaluate(
                run, "sgd_update", grads=grads.copy(), lr=np.ones(1), params=np.zeros_like(grads),
                squares=squares, clip_norm=limit,
            )  # fmt: skip
            np.testing.assert_allclose(updated["params"], -right, rtol=1e-6)


@every_backend
def test_a_norm_beyond_float64_is_not_hidden(run):
    grads = np.array([1e200, 1.0])
    squares = evaluate(run, "sum_of_squares", x=grads)["total"]
    assert np.isinf(squares)
    assert np.isnan(
        evaluate(run, "clip_norm", squares=squares, grads=grads, limit=1.0)["grads"]
    ).all()


@both_backends
@pytest.mark.parametrize("weight", [1e-25, 1e25, 1e37])
def test_an_update_of_a_clipped_gradient_has_its_length(backend, weight):
    X = np.random.default_rng(0).normal(size=(40, 5))
    trainer = gpubp.Trainer(
        gpubp.Sequential(gpubp.Dense(1)), "absolute_error", SGD(lr=0.1), device="cpu",
        backend=backend, clip_norm=1e-26, seed=2,
    )  # fmt: skip
    trainer.initialize(5)
    trainer.set_named_parameters({"W1": np.zeros((5, 1)), "b1": np.zeros(1)})
    trainer.fit(X, X[:, 0] + 3, epochs=1, batch_size=40, sample_weight=np.full(40, weight))
    assert np.linalg.norm(trainer.parameters().astype(float)) == pytest.approx(1e-27, rel=1e-5)


@both_backends
@pytest.mark.parametrize("name", WITH_CLASSES)
def test_no_classes_are_refused(backend, name):
    kernel = KERNELS[name]
    lengths = {"B": 5, "K": 0, "1": 1}
    operands = {
        o.name: np.zeros([lengths[axis] for axis in o.axes], o.dtypes("float64")[0])
        for o in kernel.operands
        if not o.optional and o.mode == "read"
    }
    with pytest.raises(
        OperandError, match=r"with K >= 1, a class or output at least, got \(5, 0\)"
    ):
        getattr(ops, name)(**operands, backend=backend)


@pytest.mark.parametrize(
    ("name", "scalar", "values"),
    [
        ("elu", "alpha", (-1.0, 0.0, np.nan, np.inf)),
        ("elu_delta", "alpha", (-1.0,)),
        ("bias_elu", "alpha", (-1.0,)),
        ("leaky_relu", "alpha", (np.nan,)),
        ("huber", "threshold", (0.0, -1.0)),
        ("quantile", "q", (0.0, 1.0)),
        ("clip_norm", "limit", (0.0,)),
    ],
)
def test_scalars_that_the_formula_does_not_allow_are_refused(name, scalar, values):
    kernel = KERNELS[name]
    shapes = {"squares": 1, "grads": 3, "b": 3}
    operands = {
        o.name: np.ones(shapes.get(o.name, (2, 3)))
        for o in kernel.operands
        if not o.optional and o.mode in ("read", "update")
    }
    for value in values:
        with pytest.raises(OperandError, match=f"scalar '{scalar}' must be a finite number.*got"):
            getattr(ops, name)(**operands, **{scalar: value})


@pytest.mark.parametrize("threshold", [0, -1, np.inf, np.nan])
def test_a_threshold_that_is_not_positive_is_refused(threshold):
    with pytest.raises(InputError, match="threshold must be a finite number above 0"):
        gpubp.losses.Huber(threshold=threshold)


@both_backends
def test_a_masked_array_is_refused(backend):
    masked = np.ma.masked_array(np.ones((2, 3)), np.eye(2, 3))
    for call in (
        lambda: ops.relu(masked, backend=backend),
        lambda: ops.huber(np.ones((2, 3)), masked, backend=backend),
        lambda: ops.relu(np.ones((2, 3)), out=masked, backend=backend),
    ):
        with pytest.raises(OperandError, match=r"masked array, whose mask would be lost; fill it"):
            call()


@every_backend
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu"])
def test_the_slope_of_nan_is_nan(run, name):
    x = np.array([np.nan, 1.0])
    (saved,) = KERNELS[name].saved
    dz = evaluate(run, f"{name}_delta", da=np.ones(2), **{saved: x})["dz"]
    assert np.isnan(dz).tolist() == [True, False]


@every_backend
@both_dtypes
@pytest.mark.parametrize("classes", [2, 9, 30])
def test_the_loss_of_a_row_that_is_nearly_right_keeps_its_digits(run, dtype, classes):
    """log(1 + u), u = Σ exp(z - top), where 1 + u is rounded to 1; and where two are on top."""
    for gap in (0.5, 12.0, 17.0, 20.0, 40.0, 80.0):
        z = np.full((2, classes), -gap, dtype)
        z[0, 1] = 0
        z[1, :2] = 0
        u = mpmath.exp(-mpmath.mpf(gap))
        rows = float(mpmath.log1p((classes - 1) * u)), float(mpmath.log(2 + (classes - 2) * u))
        a = evaluate(run, "log_softmax", z=z)["a"]
        np.testing.assert_allclose(-a[[0, 1], 1], rows, rtol=1e-6 if dtype == "float32" else 1e-14)
        labels, t = np.array([1, 1]), np.zeros_like(z)
        t[:, 1] = 1
        for row in (0, 1):
            part = slice(row, row + 1)
            for name, target in (("labels", labels), ("t", t)):
                kernel = "softmax_cross_entropy" + "_dense" * (name == "t")
                loss = evaluate(run, kernel, z=z[part], **{name: target[part]})["loss"]
                np.testing.assert_allclose(
                    loss, rows[row], rtol=1e-6 if dtype == "float32" else 1e-14
                )
