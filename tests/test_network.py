"""Networks: shapes from the data, where parameters lie, and initial weights by the seed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gpubp import Activation, Dense, Dropout, Sequential, Trainer
from gpubp.initializers import INITIALIZERS, normal
from gpubp.kernels.contract import size
from gpubp.streams import INITIAL_WEIGHTS

NETWORK = Sequential(
    Dense(6, "relu"), Dropout(0.2), Dense(5, "tanh", bias=False), Activation("elu"), Dense(2)
)

dense = st.builds(
    Dense, st.integers(1, 9), st.sampled_from(["identity", "relu", "tanh"]), st.just("auto"),
    st.booleans(), st.booleans(),
)  # fmt: skip
layers = st.one_of(dense, st.just(Dropout(0.5)), st.just(Activation("relu")))
networks = st.lists(layers, min_size=1, max_size=5).map(lambda found: [*found, Dense(3)])


def test_shapes_follow_from_the_number_of_features():
    shapes = {p.name: p.shape for p in NETWORK.parameters(4)}
    assert shapes == {"W1": (4, 6), "b1": (6,), "W3": (6, 5), "W5": (5, 2), "b5": (2,)}
    assert NETWORK.outputs(4) == 2


@given(networks, st.integers(1, 9))
def test_parameters_lie_side_by_side_those_that_decay_first(found, features):
    layout = Sequential(*found).layout(features)
    position = 0
    for parameter in layout.parameters:
        assert layout.offsets[parameter.name] == position
        assert parameter.decays == (position < layout.decaying)
        position += size(parameter.shape)
    assert layout.size == position
    assert {p.name for p in layout.parameters} == {
        p.name for p in Sequential(*found).parameters(features)
    }


def test_initial_weights_are_drawn_by_each_layers_initializer_and_stream():
    layout, vector = NETWORK.layout(4), NETWORK.initial_parameters(4, seed=5)
    assert vector.dtype == np.float64
    for parameter in layout.parameters:
        start = layout.offsets[parameter.name]
        drawn = vector[start : start + size(parameter.shape)].reshape(parameter.shape)
        if parameter.name.startswith("b"):
            np.testing.assert_array_equal(drawn, 0)
            continue
        stream = INITIAL_WEIGHTS + {"W1": 1, "W3": 2, "W5": 3}[parameter.name]
        expected = INITIALIZERS.get(parameter.initializer).draw(parameter.shape, 5, stream)
        np.testing.assert_array_equal(drawn, expected)
    assert not np.array_equal(vector, NETWORK.initial_parameters(4, seed=6))


def test_layers_that_draw_nothing_leave_a_seeds_weights_and_masks_as_they_were():
    def trained(*more):
        trainer = Trainer(
            Sequential(
                *more, Dense(5), *more, Dropout(0.3), Dense(4), *more, Dropout(0.2), Dense(2)
            ),
            backend="numpy", device="cpu", seed=3,
        )  # fmt: skip
        trainer.fit(X, np.arange(40) % 2, epochs=2)
        return trainer.parameters()

    X = normal((40, 3), 0, 0)
    plain = trained()
    np.testing.assert_array_equal(trained(Dropout(0.0)), plain)
    np.testing.assert_array_equal(trained(Activation("identity")), plain)
    assert not np.array_equal(trained(Dropout(0.1)), plain)


def test_dropout_leaves_the_initial_weights_as_they_were():
    with_it = Sequential(Dense(5), Dropout(0.5), Dense(2)).initial_parameters(3, seed=1)
    np.testing.assert_array_equal(
        with_it, Sequential(Dense(5), Dense(2)).initial_parameters(3, seed=1)
    )


def test_layers_of_one_shape_start_with_different_weights():
    network = Sequential(Dense(4, bias=False), Dense(4, bias=False))
    first, second = network.initial_parameters(4, 0).reshape(2, 16)
    assert not np.intersect1d(first, second).size


def test_the_summary():
    """Numbers by hand: 4·6 + 6, 6·5, 5·2 + 2."""
    rows = [line.split("  ") for line in NETWORK.summary(4).splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells == [
        ["layer", "outputs", "parameters"],
        ["0", "input", "4", "0"],
        ["1", "Dense(6, activation='relu')", "6", "30"],
        ["2", "Dropout(0.2)", "6", "0"],
        ["3", "Dense(5, activation='tanh', bias=False)", "5", "30"],
        ["4", "Activation('elu')", "5", "0"],
        ["5", "Dense(2)", "2", "12"],
        ["total", "72"],
    ]


def test_thousands_are_told_apart():
    assert Sequential(Dense(1000)).summary(2000).splitlines()[-1].endswith("2,001,000")


@given(networks)
def test_a_configuration_makes_the_network_again(found):
    network = Sequential(*found)
    again = Sequential.from_config(network.config())
    assert again == network
    assert hash(again) == hash(network)


def test_networks_of_other_layers_are_not_equal():
    assert Sequential(Dense(3)) != Sequential(Dense(4))
    assert Sequential(Dense(3)) != Sequential(Dense(3), Dropout(0.1))
    assert Sequential(Dense(3)) != [Dense(3)]
