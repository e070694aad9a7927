"""A fused plan computes what the unfused one does, whatever the network and the backend has."""

import numpy as np
import pytest
from fusing import kernels, trainer_of
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from networks import data, make

from gpubp import Activation, Dense, Dropout
from gpubp.backends.numba import NumbaBackend
from gpubp.errors import InputError
from gpubp.kernels.spec import ACTIVATIONS, ELEMENTWISE, KERNELS
from gpubp.losses import LOSSES
from gpubp.optimizers import OPTIMIZERS

JOINED = [
    name
    for name in KERNELS
    if name.startswith(("matmul_", "bias_")) or name.endswith(("_bias_grad", "_update"))
]

names = st.sampled_from(ACTIVATIONS) | st.just("relu")  # which has the most to join
layers = st.one_of(
    st.builds(Dense, st.integers(1, 4), names, bias=st.sampled_from((True, True, False))),
    st.builds(Dense, st.integers(1, 4), st.just("relu")),
    st.builds(Dropout, st.sampled_from((0.0, 0.3))),
    st.builds(Activation, names),
)
amounts = st.sampled_from((0.0, 0.01))
limits = st.sampled_from((None, 0.1))


@pytest.mark.filterwarnings("ignore:(the loss|y has):UserWarning")  # what it means is no matter
@settings(max_examples=100)
@given(
    hidden=st.lists(layers, max_size=4),
    last=st.builds(Dense, st.just(3), st.sampled_from(("identity", "relu", "tanh"))),
    loss=st.sampled_from(sorted({*LOSSES} - {"poisson"})),  # whose exponential may overflow
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    options=st.fixed_dictionaries(
        {"l1": amounts, "l2": amounts, "clip_value": limits, "clip_norm": limits}
    ),
    lacking=st.sets(st.sampled_from(JOINED), max_size=8),
)
def test_random_networks(hidden, last, loss, optimizer, options, lacking):
    X, y = data(loss, dtype=np.float64)
    results = []
    for has in (lambda call: False, lambda call: call.kernel not in lacking):
        try:
            trainer = trainer_of(
                *hidden, last, has=has, loss=loss, optimizer=optimizer, precision="fp64", **options
            )
        except InputError:  # a softmax of one unit, or of a softmax
            reject()
        trainer.fit(X, y, epochs=1, batch_size=8)
        evaluated = list(trainer.evaluate(X, y).values())
        results.append([trainer.parameters(), trainer.predict(X), evaluated])
    for plain, fused in zip(*results, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_results_are_the_same_fused_and_not_in_compiled_code(name, monkeypatch):
    results = []
    X, y = data(dtype=np.float64)
    has = NumbaBackend.has
    for fuses in (True, False):
        monkeypatch.setattr(
            NumbaBackend, "has", lambda self, call, fuses=fuses: fuses and has(self, call)
        )
        trainer = make(
            "numba-1", Dense(7, name), Dropout(0.2), Dense(6, name), Dense(3), precision="fp64"
        )
        trainer.fit(X, y, epochs=2, batch_size=8)
        pairs = [k for k in kernels(trainer.plan(8).calls) if k.endswith("_delta_bias_grad")]
        assert bool(pairs) == (fuses and name in ELEMENTWISE and name != "identity")
        results.append(trainer.parameters())
    np.testing.assert_allclose(*results, rtol=1e-12, atol=1e-13)
