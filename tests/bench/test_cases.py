"""Cases: what is counted agrees with the plan, what a user writes is understood."""

import numpy as np
import pytest

from gpubp.bench.cases import Case, parse_network, steps_of_epoch
from gpubp.bench.contenders.ours import make_trainer
from gpubp.errors import InputError


@pytest.mark.parametrize("sizes", [(7, 3), (5, 8, 3), (6, 4, 9, 2)])
def test_the_products_are_those_of_the_plan(sizes):
    case = Case(sizes, 16, 2)
    plan = make_trainer(case, backend="numpy").plan(16)
    counted = sum(2 * p.rows * p.inner * p.columns for p in case.products(16))
    assert counted == sum(call.flops for call in plan.calls if call.kernel == "matmul")


def test_parameters_are_counted_as_the_trainer_does():
    case = Case((6, 4, 9, 2), 16, 2)
    assert make_trainer(case, backend="numpy").parameters().size == case.parameters


@pytest.mark.parametrize("source", ["random", "digits", "table"])
def test_rows_are_the_same_every_time_and_none_is_held_out_and_trained_on(source):
    features = {"digits": 64, "table": 40}.get(source, 5)
    case = Case((features, 10), 8, 4, source=source)
    (x, y), (held_x, held_y) = case.data(), case.held_out()
    assert x.shape == (32, features)
    assert y.shape == (32,)
    assert len(held_x) == len(held_y) > 0
    np.testing.assert_array_equal(x, case.data()[0])
    assert not {row.tobytes() for row in x} & {row.tobytes() for row in held_x}


def test_an_epoch_is_neither_endless_nor_a_step():
    assert steps_of_epoch((2, 2), 1) == steps_of_epoch((32, 64, 2), 32) > 50
    assert 1 < steps_of_epoch((4096, 4096, 4096), 4096) < 10


def test_networks_as_users_write_them():
    assert parse_network("784-256-10") == ((784, 256, 10), "relu")
    assert parse_network("784-10:tanh") == ((784, 10), "tanh")


@pytest.mark.parametrize("text", ["784", "784-", "a-b", "784-0-10", "-1-2", "", "8-2:relo"])
def test_what_is_no_network_is_refused(text):
    with pytest.raises(InputError, match=r"784-256-10|relu"):
        parse_network(text)
