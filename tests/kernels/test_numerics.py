"""What the formulas must keep in floating point: slopes, digits, limits, masks and ties."""

import numpy as np
import oracles
import pytest
from cases import Call
from runners import evaluate, every_backend, run_reference, run_strict

from gpubp.kernels import bfloat16 as bfloat16_bits
from gpubp.kernels.spec import ACTIVATIONS, KERNELS

NAN, INF = np.nan, np.inf
SCALARS = {"alpha": 0.3, "threshold": 0.8, "q": 0.3, "smoothing": 0.2, "scale": 0.7}
LOSSES = [kernel.name for kernel in KERNELS.values() if kernel.family == "loss"]
RELATIVE = {"float32": 3e-6, "float64": 1e-14}

both_dtypes = pytest.mark.parametrize("dtype", RELATIVE)
both_references = pytest.mark.parametrize("run", [run_reference, run_strict])


def scalars_of(name):
    return {s.name: SCALARS[s.name] for s in KERNELS[name].scalars}


def smooth_points(rng, shape, kinks):
    """Return normal numbers of which none is within 0.05 of a kink."""
    z = 2 * rng.standard_normal(shape)
    while (near := np.min([np.abs(z - kink) for kink in kinks], axis=0) < 0.05).any():
        z[near] = 2 * rng.standard_normal(near.sum())
    return z


def assert_gradient(objective, z, slope, step=1e-5):
    """Compare a gradient with central differences of the objective."""
    for index in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[index] += step
        down[index] -= step
        numeric = (objective(up) - objective(down)) / (2 * step)
        assert slope[index] == pytest.approx(numeric, rel=1e-7, abs=1e-8), index


@every_backend
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_delta_kernel_is_the_derivative_of_its_forward(run, name):
    rng = np.random.default_rng(0)
    z, da = smooth_points(rng, (3, 4), kinks=[0.0]), rng.standard_normal((3, 4))
    scalars = scalars_of(name)
    values = {"z": z, "a": evaluate(run, name, z=z, **scalars)["a"]}
    wanted = {o.name for o in KERNELS[f"{name}_delta"].operands}
    saved = {key: value for key, value in values.items() if key in wanted}
    dz = evaluate(run, f"{name}_delta", da=da, **saved, **scalars)["dz"]
    assert_gradient(lambda z: np.sum(da * evaluate(run, name, z=z, **scalars)["a"]), z, dz)


@every_backend
@pytest.mark.parametrize("name", LOSSES)
def test_the_delta_of_a_loss_is_its_derivative(run, name):
    rng = np.random.default_rng(1)
    targets = {
        "labels": np.array([2, 0, 3]),
        "t": rng.dirichlet(np.ones(4), 3)
        if "cross_entropy" in name
        else rng.poisson(3.0, (3, 4)) + 0.0,
    }
    target = KERNELS[name].operands[1].name
    masked = KERNELS[name].index["mask"].axes
    values = scalars_of(name) | {
        target: targets[target],
        "weights": rng.random(3),
        "mask": rng.random((3, 4) if len(masked) == 2 else 3) < 0.7,
    }
    threshold = SCALARS["threshold"]
    residual = smooth_points(rng, (3, 4), kinks=[-threshold, 0.0, threshold])
    z = residual + (targets["t"] if "labels" not in values else 0)
    dz = evaluate(run, name, z=z, **values)["dz"]
    assert_gradient(lambda z: evaluate(run, name, z=z, **values)["loss"][0], z, dz)


@every_backend
def test_dropout_delta_is_the_transpose_of_dropout(run):
    rng = np.random.default_rng(2)
    x, dy = rng.standard_normal((2, 5, 7))
    draw = {"seed": np.array([5]), "step": np.array([9]), "rate": 0.4, "stream": 2, "first": 3}
    y = evaluate(run, "dropout", x=x, **draw)["y"]
    dx = evaluate(run, "dropout_delta", dy=dy, **draw)["dx"]
    assert np.vdot(dy, y) == pytest.approx(np.vdot(dx, x), rel=1e-12)


@every_backend
@both_dtypes
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "elu", "silu", "softplus", "exponential"])
def test_tails_keep_their_relative_precision(run, name, dtype):
    """From -80, where the results are tiny, to 80, where an exponential could overflow."""
    z = np.concatenate([np.linspace(-80, 80, 1601), np.geomspace(1e-30, 1, 100)]).astype(dtype)
    z = np.concatenate([z, -z])
    alpha = {"alpha": 1.0} if name == "elu" else {}
    exact = {
        "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
        "softplus": lambda z: np.logaddexp(0, z),
    }.get(name, oracles.ACTIVATIONS[name])
    a = evaluate(run, name, z=z, **alpha)["a"]
    np.testing.assert_allclose(a, exact(z.astype(np.longdouble)), rtol=RELATIVE[dtype])


@every_backend
@pytest.mark.parametrize(("dtype", "relative"), [("float32", 2e-5), ("float64", 2e-14)])
def test_gelu_keeps_its_left_tail(run, dtype, relative):
    """z Φ(z) down to 1e-30; exp(-z²/2) magnifies the rounding of z²."""
    z = np.linspace(-11, 5, 1601).astype(dtype)
    a = evaluate(run, "gelu", z=z)["a"]
    exact = z * np.exp(oracles.special.log_ndtr(z.astype(np.float64)))
    np.testing.assert_allclose(a, exact, rtol=relative)


@every_backend
@both_dtypes
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("sigmoid", 0, 1),
        ("tanh", -1, 1),
        ("relu", 0, INF),
        ("leaky_relu", -INF, INF),
        ("elu", -1, INF),
        ("softplus", 0, INF),
        ("exponential", 0, INF),
    ],
)
def test_infinities_have_their_limits(run, name, low, high, dtype):
    a = evaluate(run, name, z=np.array([-INF, INF], dtype))["a"]
    np.testing.assert_array_equal(a, [low, high])


@every_backend
def test_slopes_at_a_kink_are_zero(run):
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    assert evaluate(run, "relu_delta", da=one, a=zero)["dz"] == 0
    for name in ("absolute_error", "quantile", "huber", "squared_error"):
        assert evaluate(run, name, z=one, t=one)["dz"] == 0


@every_backend
def test_kinks_are_at_zero_and_nowhere_near(run):
    z, da = np.array([-1e-30, 0.0, 1e-30]), np.array([3.0, 3.0, 3.0])
    for name, scalars in (("relu", {}), ("leaky_relu", {"alpha": 0.5}), ("elu", {"alpha": 0.5})):
        below = scalars.get("alpha", 0)
        a = evaluate(run, name, z=z, **scalars)["a"]
        np.testing.assert_allclose(a, [below * -1e-30, 0, 1e-30])
        saved = {"a": a} if name == "relu" else {"z": z}
        dz = evaluate(run, f"{name}_delta", da=da, **saved, **scalars)["dz"]
        np.testing.assert_allclose(dz, [below * 3, below * 3, 3])


@every_backend
@both_dtypes
def test_softmax_does_not_care_for_a_shift(run, dtype):
    """The logits are exact in float32 with the shift and without it."""
    z = np.random.default_rng(3).integers(-40, 40, (5, 7)).astype(dtype) / 8
    labels, t = np.arange(5), np.eye(7, dtype=dtype)[::-1][:5].copy()
    for name, operands in {
        "softmax": {},
        "log_softmax": {},
        "softmax_cross_entropy": {"labels": labels, "smoothing": 0.1},
        "softmax_cross_entropy_dense": {"t": t, "smoothing": 0.1},
    }.items():
        plain = evaluate(run, name, z=z, **operands)
        moved = evaluate(run, name, z=z + np.array(65536, dtype), **operands)
        for key in plain:
            np.testing.assert_allclose(moved[key], plain[key], rtol=RELATIVE[dtype], atol=1e-7)


@every_backend
@both_dtypes
def test_huge_equal_logits_share_evenly(run, dtype):
    z = np.full((2, 4), 1e30, dtype)
    np.testing.assert_allclose(evaluate(run, "softmax", z=z)["a"], 0.25)
    loss = evaluate(run, "softmax_cross_entropy", z=z, labels=np.array([0, 3]))["loss"]
    np.testing.assert_allclose(loss, 2 * np.log(4), rtol=1e-6)


@every_backend
@both_dtypes
def test_an_impossible_class_costs_nothing_where_it_is_not_the_target(run, dtype):
    z = np.array([[0.0, -INF, 0.0]], dtype)
    for name, target in (
        ("softmax_cross_entropy", {"labels": np.array([0])}),
        ("softmax_cross_entropy_dense", {"t": np.array([[1, 0, 0]], dtype)}),
    ):
        out = evaluate(run, name, z=z, **target)
        np.testing.assert_allclose(out["loss"], np.log(2), rtol=1e-6)
        np.testing.assert_allclose(out["dz"], [[-0.5, 0, 0.5]], rtol=1e-6)


@every_backend
@both_dtypes
@pytest.mark.parametrize("name", LOSSES)
def test_what_the_mask_leaves_out_is_exactly_nothing(run, name, dtype):
    rng = np.random.default_rng(4)
    elementwise = KERNELS[name].index["mask"].axes == ("B", "K")
    z, t = rng.random((2, 6, 3)).astype(dtype)
    mask = np.array([True, False, True, False, False, True])
    kept = {"z": z[mask], "labels": np.array([0, 1, 2]), "t": t[mask]}
    for poison in (NAN, INF, -INF, 1e38):
        z[~mask], t[~mask] = poison, poison
        whole = {"z": z, "labels": np.array([0, 0, 1, 0, 0, 2]), "t": t}
        target = KERNELS[name].operands[1].name
        used = np.repeat(mask[:, None], 3, axis=1) if elementwise else mask
        out = evaluate(run, name, z=z, mask=used, **{target: whole[target]})
        alone = evaluate(run, name, z=kept["z"], **{target: kept[target]})
        np.testing.assert_allclose(out["loss"], alone["loss"], rtol=RELATIVE[dtype])
        np.testing.assert_allclose(out["dz"][mask], alone["dz"], rtol=RELATIVE[dtype])
        assert (out["dz"][~mask] == 0).all()


@every_backend
@pytest.mark.parametrize("name", LOSSES)
def test_a_non_finite_logit_spoils_loss_and_delta(run, name):
    target = KERNELS[name].operands[1].name
    targets = {"labels": np.array([1, 0]), "t": np.array([[0.5, 0.5], [0.5, 0.5]])}
    z = np.array([[0.2, NAN], [0.1, 0.3]])
    out = evaluate(run, name, z=z, **{target: targets[target]})
    assert np.isnan(out["loss"])
    assert np.isnan(out["dz"][0, 1])
    assert np.isfinite(out["dz"][1]).all()


@every_backend
def test_the_first_of_equal_maxima_counts(run):
    z = np.array([[1.0, 1.0], [0.0, 0.0], [2.0, 3.0]])
    count = {"count": np.array([10])}
    right = evaluate(run, "count_correct", z=z, labels=np.array([0, 1, 1]), **count)
    assert right["count"] == 10 + 2


@every_backend
def test_a_number_at_the_threshold_is_no_yes(run):
    z, t = np.array([[0.0], [-1.0], [1e-300]]), np.array([[0.0], [0.5], [0.5000001]])
    count = evaluate(run, "count_correct_binary", z=z, t=t, count=np.array([0]))["count"]
    assert count == 3


@every_backend
def test_a_row_is_right_if_all_of_it_is(run):
    z = np.array([[2.0, -2.0], [2.0, -2.0], [2.0, -2.0], [2.0, 2.0]])
    t = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.6]])
    count = evaluate(run, "count_correct_binary", z=z, t=t, count=np.array([0]))["count"]
    assert count == 2


@every_backend
@both_dtypes
@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True), (True, True)])
def test_a_product_over_nothing_is_zero(run, flags, dtype):
    ta, tb = flags
    a = np.ones((0, 3) if ta else (3, 0), dtype)
    b = np.ones((4, 0) if tb else (0, 4), dtype)
    c = evaluate(
        run, "matmul", a=a, b=b, c=np.full((3, 4), NAN, dtype), transpose_a=ta, transpose_b=tb
    )
    np.testing.assert_array_equal(c["c"], np.zeros((3, 4)))


@every_backend
@both_dtypes
def test_clipping_leaves_a_small_gradient_alone_and_nan_in_sight(run, dtype):
    grads = np.array([0.3, -0.4], dtype)
    out = evaluate(run, "clip_norm", squares=np.array([0.25]), grads=grads.copy(), limit=1.0)
    np.testing.assert_array_equal(out["grads"], grads)
    zero = evaluate(run, "clip_norm", squares=np.zeros(1), grads=np.zeros(2, dtype), limit=1.0)
    np.testing.assert_array_equal(zero["grads"], [0, 0])
    lost = evaluate(run, "clip_norm", squares=np.array([NAN]), grads=grads.copy(), limit=1.0)
    assert np.isnan(lost["grads"]).all()


@both_references
def test_a_mask_leaves_out_what_is_not_finite(run):
    a = np.array([[1.0], [1.0]])
    b = np.array([[NAN, INF, -INF, 2.0]])
    mask = np.zeros((2, 16), np.uint8)
    mask[1, 0] = 0b1010
    out = evaluate(run, "matmul_relu_delta_bias_grad", a=a, b=b, mask=mask)
    np.testing.assert_array_equal(out["c"], [[0, 0, 0, 0], [0, INF, 0, 2]])
    np.testing.assert_array_equal(out["db"], [0, INF, 0, 2])


@both_references
def test_a_mask_has_the_bits_that_relu_lets_through(run):
    """The first column is bit 0 of byte 0, the tenth bit 1 of byte 1; NaN and 0 let nothing."""
    z = np.full((1, 130), -1.0)
    z[0, [0, 9, 129]] = 1
    z[0, [1, 2]] = NAN, 0
    mask = np.full((1, 32), 99, np.uint8)
    out = evaluate(run, "matmul_bias_relu", a=np.ones((1, 1)), b=z, bias=np.zeros(130), mask=mask)
    assert np.flatnonzero(np.unpackbits(out["mask"], bitorder="little")).tolist() == [0, 9, 129]
    assert np.isnan(out["c"][0, 1])


@both_references
def test_only_the_first_parameters_decay(run):
    params, zero = np.ones(4), np.zeros(4)
    settings = {"lr": np.array([0.5]), "step": np.array([0]), "m": zero, "v": zero.copy()}
    evaluate(
        run, "adamw_update", grads=np.zeros(4), params=params, **settings,
        weight_decay=0.5, decaying=2,
    )  # fmt: skip
    np.testing.assert_array_equal(params, [0.75, 0.75, 1, 1])
    grads = np.zeros(4)
    values = {"lr": np.array([0.0]), "l1": 0.5, "l2": 0.25, "decaying": 3}
    evaluate(run, "sgd_update", grads=grads, params=-np.ones(4), **values)
    np.testing.assert_array_equal(grads, [-0.75, -0.75, -0.75, 0])


def test_rounding_to_bfloat16_is_to_the_nearest_and_ties_to_even():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    bits = np.arange(2**16, dtype=np.uint16)
    exact = bits.view(bfloat16).astype(np.float32)
    exact = np.unique(exact[np.isfinite(exact)])
    between = exact[:-1] + np.diff(exact.astype(np.float64)) / 2
    finite = np.concatenate([exact, between.astype(np.float32)])
    rounded = np.empty(finite.shape, bfloat16)
    run_reference(Call(KERNELS["round_bfloat16"], [finite, rounded], {}))
    expected = bfloat16_bits.to_float32(bfloat16_bits.from_float32(finite))
    np.testing.assert_array_equal(rounded.astype(np.float32), expected)
    np.testing.assert_array_equal(rounded[: exact.size].astype(np.float32), exact)
    even = rounded[exact.size :].view(np.uint16) % 2 == 0
    assert even.all()


@every_backend
def test_sums_of_float32_keep_float64_digits(run):
    x = np.full(100_000, 0.1, np.float32)
    exact = 100_000 * float(np.float32(0.1)) ** 2
    total = evaluate(run, "sum_of_squares", x=x)["total"]
    assert total == pytest.approx(exact, rel=1e-12)
    z, t = x.reshape(-1, 10), np.zeros((10_000, 10), np.float32)
    error = evaluate(run, "sum_of_squared_errors", z=z, t=t)["total"]
    assert error == pytest.approx(exact, rel=1e-12)
    loss = evaluate(run, "squared_error", z=z, t=t)["loss"]
    assert loss == pytest.approx(exact / 2, rel=1e-6)
