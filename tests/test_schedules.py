"""Schedules: values worked by hand and by peers, bounds, continuity, state, configuration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubp.errors import CheckpointError, InputError
from gpubp.schedules import SCHEDULES, Schedule, Span

unit = st.floats(0.01, 0.99)
SHAPES: dict[str, dict[str, st.SearchStrategy]] = {
    "constant": {},
    "step": {"every": st.integers(1, 20), "gamma": unit},
    "exponential": {"gamma": unit},
    "inverse_scaling": {"power": st.floats(0, 2)},
    "cosine": {"floor": unit},
    "one_cycle": {
        "warm": unit, "start_divisor": st.floats(1, 1e3), "final_divisor": st.floats(1, 1e5)
    },
    "reduce_on_plateau": {"factor": unit, "patience": st.integers(1, 9), "minimum": unit},
}  # fmt: skip


@st.composite
def schedules(
    draw: st.DrawFn, names: tuple[str, ...] = tuple(SHAPES), warm: bool = True
) -> Schedule:
    def plain() -> Schedule:
        name = draw(st.sampled_from(names))
        return SCHEDULES.get(name, **draw(st.fixed_dictionaries(SHAPES[name])))

    made = plain()
    if warm and draw(st.booleans()):
        made = SCHEDULES.get("warmup", steps=draw(st.integers(0, 50)), then=made)
    return made


spans = st.builds(Span, total_steps=st.integers(1, 400), steps_per_epoch=st.integers(1, 60))


def factors(schedule: Schedule | str, span: Span, count: int | None = None) -> np.ndarray:
    steps = np.arange(span.total_steps if count is None else count)
    return SCHEDULES.get(schedule).factors(steps, span)


def test_every_schedule_is_covered() -> None:
    assert {*SHAPES, "warmup"} == set(SCHEDULES)


@given(schedules(), spans)
def test_factors_lie_in_0_to_1_and_keep_shape_and_dtype(schedule: Schedule, span: Span) -> None:
    steps = np.arange(2 * 3 * span.total_steps).reshape(2, -1)  # beyond the end of the run, too
    values = schedule.factors(steps, span)
    assert values.shape == steps.shape
    assert values.dtype == np.float64
    assert np.all((values >= 0) & (values <= 1 + 1e-15))


@given(schedules(), spans, st.integers(0, 100))
def test_a_step_has_its_factor_whoever_else_is_asked_for(
    schedule: Schedule, span: Span, start: int
) -> None:
    whole = schedule.factors(np.arange(start + 7), span)
    np.testing.assert_array_equal(
        schedule.factors(np.arange(start, start + 7), span), whole[start:]
    )


@given(schedules(("constant", "exponential", "cosine", "one_cycle"), warm=False), st.integers(1, 8))
def test_smooth_schedules_have_no_jumps(schedule: Schedule, epochs: int) -> None:
    coarse, fine = (
        np.abs(np.diff(factors(schedule, Span(1000 * n * epochs, 1000 * n)))).max() for n in (1, 16)
    )
    assert fine <= coarse / 8 + 1e-12


@given(schedules(("constant", "step", "exponential", "inverse_scaling", "cosine")), spans)
def test_after_a_warm_up_the_rate_never_rises(schedule: Schedule, span: Span) -> None:
    values = factors(schedule, span)
    peak = values.argmax()
    assert np.all(np.diff(values[: peak + 1]) >= 0)
    assert np.all(np.diff(values[peak:]) <= 0)


def test_step_falls_at_its_epochs() -> None:
    schedule = SCHEDULES.get("step", every=2, gamma=0.1)
    values = factors(schedule, Span(15, 3))
    np.testing.assert_allclose(values, [1] * 6 + [0.1] * 6 + [0.01] * 3, rtol=1e-15)


def test_exponential_reaches_gamma_after_each_epoch() -> None:
    values = factors(SCHEDULES.get("exponential", gamma=0.5), Span(9, 3))
    np.testing.assert_allclose(values[::3], [1, 0.5, 0.25], rtol=1e-15)
    np.testing.assert_allclose(values[1:] / values[:-1], 0.5 ** (1 / 3), rtol=1e-14)


def test_inverse_scaling_is_scikit_learns_formula() -> None:
    optimizers = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    peer = optimizers.SGDOptimizer([np.zeros(1)], 1.0, "invscaling", power_t=0.3)
    values = factors(SCHEDULES.get("inverse_scaling", power=0.3), Span(20, 5))
    for t in range(20):
        peer.iteration_ends(t)
        assert values[t] == pytest.approx(peer.learning_rate, rel=1e-15)


def test_cosine_by_hand() -> None:
    values = factors(SCHEDULES.get("cosine", floor=0.2), Span(4, 1), 6)
    half = 0.5 * math.sqrt(0.5)
    np.testing.assert_allclose(
        values, [1, 0.2 + 0.8 * (0.5 + half), 0.6, 0.2 + 0.8 * (0.5 - half), 0.2, 0.2], rtol=1e-15
    )


def test_one_cycle_starts_peaks_and_ends_where_it_should() -> None:
    schedule = SCHEDULES.get("one_cycle", warm=0.25, start_divisor=10, final_divisor=100)
    values = factors(schedule, Span(8, 1), 20)
    assert values[0] == pytest.approx(0.1)
    assert values[1] == pytest.approx(0.55)
    assert values[2] == 1.0
    assert values[5] == pytest.approx((1 + 0.01) / 2)
    np.testing.assert_allclose(values[8:], 0.01)


def test_warm_up_leads_to_the_start_of_the_next_schedule_and_leaves_it_the_rest_of_the_run() -> (
    None
):
    plain = SCHEDULES.get("one_cycle")
    values = factors(SCHEDULES.get("warmup", steps=4, then=plain), Span(20, 5))
    np.testing.assert_allclose(
        values[:4], plain.factors(np.array([0]), Span(16, 5)) * [0.2, 0.4, 0.6, 0.8]
    )
    np.testing.assert_array_equal(values[4:], factors(plain, Span(16, 5)))


@pytest.mark.parametrize(
    ("fields", "length"), [({}, 10), ({"epochs": 0.5}, 5), ({"epochs": 2}, 20), ({"steps": 3}, 3)]
)
def test_warm_up_is_measured_in_steps_or_epochs(fields: dict[str, float], length: int) -> None:
    values = factors(SCHEDULES.get("warmup", **fields), Span(50, 10))
    assert (values < 1).sum() == length
    assert values[0] == pytest.approx(1 / (length + 1))


def test_a_warm_up_longer_than_the_run_still_rises() -> None:
    values = factors(SCHEDULES.get("warmup", steps=100, then="cosine"), Span(10, 10))
    np.testing.assert_allclose(values, np.arange(1, 11) / 101)


def observed(schedule: Schedule, losses: list[float]) -> list[float]:
    values = []
    for loss in losses:
        schedule.observe(loss)
        values.append(float(schedule.factors(np.array([0]), Span(1, 1))[0]))
    return values


def test_plateau_by_hand() -> None:
    schedule = SCHEDULES.get(
        "reduce_on_plateau", factor=0.5, patience=2, threshold=0.1, minimum=0.3
    ).start()
    #        first, better, same, 9.9 % better is not, better, NaN, inf, worse, worse
    losses = [4.0, 2.0, 2.0, 1.802, 1.0, math.nan, math.inf, 1.5, 1.5]
    assert observed(schedule, losses) == [1, 1, 1, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]


def test_plateau_of_a_negative_loss() -> None:
    schedule = SCHEDULES.get("reduce_on_plateau", patience=1, threshold=0.1).start()
    assert observed(schedule, [-10.0, -10.5, -12.0]) == [1, 0.5, 0.5]


@given(
    st.lists(st.floats(-10, 10) | st.just(math.nan), min_size=1, max_size=30),
    st.integers(0, 30),
    st.booleans(),
)
def test_a_plateau_goes_on_from_its_state(losses: list[float], cut: int, warm: bool) -> None:
    fields = {"patience": 2, "threshold": 0.01}
    plateau = SCHEDULES.get("reduce_on_plateau", **fields)
    schedule = SCHEDULES.get("warmup", steps=0, then=plateau) if warm else plateau
    whole, first, second = schedule.start(), schedule.start(), schedule.start()
    expected = observed(whole, losses)
    before = observed(first, losses[:cut])
    second.restore(first.state())
    assert before + observed(second, losses[cut:]) == expected
    assert second.state() == whole.state()


@pytest.mark.parametrize("warm", [False, True])
def test_each_run_starts_afresh(warm: bool) -> None:
    schedule = SCHEDULES.get("reduce_on_plateau", patience=1)
    if warm:
        schedule = SCHEDULES.get("warmup", steps=0, then=schedule)
    assert observed(schedule.start(), [1.0, 1.0]) == [1.0, 0.5]
    assert observed(schedule.start(), [1.0]) == [1.0]


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("constant", {"scale": 1.0}),
        ("reduce_on_plateau", {"scale": 2.0, "best": None, "wait": 0}),
        ("reduce_on_plateau", {"scale": "0.5", "best": None, "wait": 0}),
        ("reduce_on_plateau", {"momentum": 0.5}),
        ("warmup", {"wait": 0}),
    ],
)
def test_a_foreign_state_is_refused(name: str, state: dict[str, object]) -> None:
    with pytest.raises(CheckpointError, match="is not the state of"):
        SCHEDULES.get(name).restore(state)


@given(schedules())
def test_configuration_round_trip(schedule: Schedule) -> None:
    config = SCHEDULES.config(schedule)
    assert SCHEDULES.from_config(config) == schedule
    assert SCHEDULES.config(SCHEDULES.from_config(config)) == config


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("step", {"every": 0}, "every must be a whole number at least 1, got 0"),
        ("step", {"every": 2.5}, "every must be a whole number"),
        ("step", {"gamma": 1.5}, "gamma must be a finite number above 0 and at most 1, got 1.5"),
        ("exponential", {"gamma": 0}, "gamma must be .* got 0"),
        ("exponential", {"gamma": math.nan}, "got nan"),
        ("inverse_scaling", {"power": math.inf}, "got inf"),
        ("cosine", {"floor": "0"}, "floor must be .* got '0'"),
        ("one_cycle", {"warm": 1.0}, "warm must be .* above 0 and below 1"),
        ("one_cycle", {"final_divisor": True}, "got True"),
        ("warmup", {"steps": 1, "epochs": 1}, "leave one of them out"),
        ("warmup", {"then": "cosin"}, "did you mean 'cosine'"),
        ("warmup", {"then": 3}, "is no schedule"),
        ("reduce_on_plateau", {"_watch": None}, "unknown option"),
        ("reduce_on_plateau", {"patience": 0}, "patience must be"),
    ],
)
def test_bad_settings_are_refused(name: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SCHEDULES.get(name, **fields)


def test_numpy_scalars_become_plain_numbers() -> None:
    config = SCHEDULES.config(SCHEDULES.get("step", every=np.int32(3), gamma=np.float32(0.5)))
    assert config == {"name": "step", "every": 3, "gamma": 0.5}
    assert [type(value) for value in config.values()] == [str, int, float]
