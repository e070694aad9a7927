"""The gradient check: passes what is right, names what is wrong, and steps around corners."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gpubp
from gpubp import gradients
from gpubp.errors import InputError
from gpubp.gradients import GradientReport, ParameterReport, check_gradients
from gpubp.kernels import reference
from gpubp.kernels.spec import ACTIVATIONS
from gpubp.losses import LOSSES

N, K = 7, 3
random = np.random.default_rng(0)
X = random.normal(size=(N, 4))
LABELS = random.integers(0, K, N)
TARGETS = {
    "softmax_cross_entropy": LABELS,
    "poisson": random.integers(0, 4, (N, K)).astype(float),
    "sigmoid_cross_entropy": random.random((N, K)),
}
VALUES = random.normal(size=(N, K))


def network(activation: str = "tanh", *more: gpubp.Dropout) -> gpubp.Sequential:
    return gpubp.Sequential(gpubp.Dense(5, activation), *more, gpubp.Dense(K))


def check(
    net: gpubp.Sequential, loss: Any = "softmax_cross_entropy", **more: Any
) -> GradientReport:
    more.setdefault("backend", "numpy")
    name = loss if isinstance(loss, str) else LOSSES.name_of(loss)
    return check_gradients(net, loss, X, more.pop("y", TARGETS.get(name, VALUES)), **more)


def break_kernel(monkeypatch: pytest.MonkeyPatch, kernel: str, factor: float) -> None:
    """Multiply what a kernel of the numpy backend returns."""
    right = reference.function

    def broken(name: str) -> Any:
        def run(*operands: Any, **scalars: Any) -> None:
            right(name)(*operands, **scalars)
            operands[-1][...] *= factor

        return run if name == kernel else right(name)

    monkeypatch.setattr(reference, "function", broken)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation: str) -> None:
    report = check(network(activation))
    assert report.passed, report
    assert [p.name for p in report.parameters] == ["W1", "b1", "W2", "b2"]


@pytest.mark.parametrize("loss", list(LOSSES))
def test_every_loss(loss: str) -> None:
    report = check(network(), loss)
    assert report.passed, report


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (LOSSES.get("softmax_cross_entropy", smoothing=0.1), LABELS),
        (LOSSES.get("softmax_cross_entropy", smoothing=0.1), random.dirichlet(np.ones(K), N)),
        (LOSSES.get("squared_error", half=False), VALUES),
        (LOSSES.get("huber", threshold=0.3), VALUES),
        (LOSSES.get("quantile", q=0.9), VALUES),
    ],
)
def test_losses_with_settings(loss: Any, y: np.ndarray) -> None:
    report = check(network(), loss, y=y, sample_weight=np.linspace(0, 2, N))
    assert report.passed, report


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_backends_and_dropout(backend: str) -> None:
    report = check(network("relu", gpubp.Dropout(0.4)), backend=backend)
    assert report.passed, report
    assert report.backend == backend


def test_the_check_is_reproducible() -> None:
    assert check(network()) == check(network())
    assert check(network()) != check(network(), seed=1)


@pytest.mark.parametrize(
    ("kernel", "factor", "wrong"),
    [
        ("tanh_delta", 1.001, {"W1", "b1"}),
        ("bias_grad", 0.999, {"b1", "b2"}),
        ("softmax_cross_entropy", 1 + 1e-4, {"W1", "b1", "W2", "b2"}),
    ],
)
def test_a_wrong_kernel_is_found(
    kernel: str, factor: float, wrong: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_kernel(monkeypatch, kernel, factor)
    report = check(network())
    assert not report.passed
    assert set(report.wrong) == wrong
    assert "FAILED" in str(report)


def test_elements_at_a_corner_are_left_out() -> None:
    net = gpubp.Sequential(gpubp.Dense(3, "relu"), gpubp.Dense(1))
    start = net.initial_parameters(1, 0)
    layout = net.layout(1)
    point = gradients._point(start, 0)
    w, b = (point[layout.offsets[name]] for name in ("W1", "b1"))
    x = np.array([[-b / w], [0.4], [-0.7], [1.3]])  # the first unit's z is 0 for the first row
    report = check_gradients(net, "squared_error", x, np.ones(4), backend="numpy")
    assert report.passed, report
    found = {p.name: (p.checked, p.kinks) for p in report.parameters}
    assert found == {"W1": (2, 1), "b1": (2, 1), "W2": (3, 0), "b2": (1, 0)}


def test_a_parameter_with_nothing_but_corners_does_not_pass() -> None:
    net = gpubp.Sequential(gpubp.Dense(1, "relu", bias=False), gpubp.Dense(1))
    far = 2.0  # from the only weight across 0, where ReLU has its corner
    report = check_gradients(
        net, "squared_error", np.ones((2, 1)), np.ones(2), backend="numpy", epsilon=far
    )
    assert not report.passed
    assert (report.parameters[0].checked, report.parameters[0].kinks) == (0, 1)
    assert report.inconclusive == ("W1",)
    assert "inconclusive in W1: corners and the rounding of the loss left nothing" in str(report)


@pytest.mark.filterwarnings("ignore:y has values from .* train on")
@pytest.mark.parametrize("factor", [1.0, 1.5, 0.0])
def test_what_the_rounding_of_a_huge_loss_hides_is_inconclusive(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Targets of 1e9: a loss of some 1e18, whose last place, over ε, is more than the slopes."""
    break_kernel(monkeypatch, "tanh_delta", factor)
    report = check(network(), "squared_error", y=VALUES * 1e9)
    assert report.loss > 1e17
    assert report.floor == pytest.approx(20 * 2**-52 * report.loss / 1e-6)
    assert not report.passed
    assert report.wrong == ()
    assert report.inconclusive == ("W1", "b1", "W2", "b2")
    assert all(p.hidden and not p.checked for p in report.parameters)
    assert str(report).splitlines()[-1].startswith("inconclusive in W1, b1, W2, b2: ")


@pytest.mark.filterwarnings("ignore:y has values from .* train on")
@pytest.mark.parametrize("factor", [1.0, 1.5, 0.0])
def test_a_large_loss_hides_nothing_while_its_slopes_are_larger(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_kernel(monkeypatch, "tanh_delta", factor)
    report = check(network(), "squared_error", y=VALUES * 1e3)
    assert report.wrong == (("W1", "b1") if factor != 1 else ()), report
    assert report.passed == (factor == 1), report


def test_a_gradient_of_0_is_right_if_there_are_others() -> None:
    """Units that no row reaches: their gradients are 0, and so are the differences."""
    net = gpubp.Sequential(gpubp.Dense(5, "relu"), gpubp.Dense(K))
    report = check_gradients(net, "squared_error", np.abs(X) * -1e-3, VALUES, backend="numpy")
    assert report.passed, report
    nothing = check_gradients(
        gpubp.Sequential(gpubp.Dense(1, "relu", bias=False)), "squared_error",
        np.zeros((3, 4)), np.ones((3, 1)), backend="numpy",
    )  # fmt: skip
    assert nothing.inconclusive == ("W1",)


@pytest.mark.parametrize(
    ("f", "slope", "kink"),
    [
        (lambda v: max(v, 0.0), 0.0, True),  # the corner is the point
        (lambda v: max(v - 4e-7, 0.0), 0.0, True),  # off the point, but within epsilon
        (lambda v: abs(v + 9e-7), 1.0, True),
        (lambda v: max(v - 2e-6, 0.0), 0.0, False),  # beyond epsilon: nothing to see
        (lambda v: math.exp(3 * v), 3.0, False),  # smooth and right
        (lambda v: math.exp(3 * v), 3.01, False),  # smooth and wrong
    ],
)
def test_a_corner_is_told_from_an_error(f: Any, slope: float, kink: bool) -> None:
    probe = gradients._Probe(lambda v: f(v[0]), np.zeros(1), f(0.0), 1e-6, 1e-5, 1.0)
    difference, error, found = probe.compare(0, slope)
    assert (found == "kink") == kink
    if not kink:
        assert (error < 1e-5) == (slope != 3.01)
        assert difference == pytest.approx(slope, abs=0.02)


def test_samples_bound_the_work() -> None:
    report = check(network(), samples=2)
    assert {p.checked for p in report.parameters} == {2}


def test_the_printed_table() -> None:
    parameter = ParameterReport("W1", (2, 3), 6, 0, 0, 2e-9, (1, 2), 0.5, 0.500000001)
    good = GradientReport((parameter,), 1e-5, 0.25, 4.4e-9, "numpy")
    assert str(good).splitlines() == [
        "parameter   shape  checked  kinks  hidden    error  worst at  backprop  difference",
        "       W1  (2, 3)        6      0       0  2.0e-09    (1, 2)       0.5         0.5",
        "passed: no error is above 1e-05 (loss 0.25, floor 4.4e-09, backend numpy)",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples must be a whole number at least 1, got 0"),
        ({"epsilon": 0}, "epsilon must be a finite number above 0"),
        ({"tolerance": "x"}, "tolerance must be"),
        ({"loss": "hinge"}, "unknown loss 'hinge'"),
        ({"y": LABELS[:3]}, "y has 3 rows"),
    ],
)
def test_bad_arguments(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(network(), **settings)
