"""Philox4x32-10: the published answers, the same bits everywhere, any part of a stream alone."""

import array_api_strict
import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runners import RUN, evaluate, every_backend

from gpubp.kernels.reference.random import philox

ONES = 0xFFFFFFFF
# Random123, tests/kat_vectors: counter, key, result.
KNOWN_ANSWERS = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (ONES, ONES, ONES, ONES),
        (ONES, ONES),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]

int64s = st.integers(-(2**63), 2**63 - 1)
streams = st.integers(0, 2**32 - 1)


def bits(run, count, seed=1, step=0, stream=0):
    values = {"seed": np.array([seed]), "step": np.array([step]), "stream": stream}
    return evaluate(run, "random_bits", bits=np.zeros(count, np.uint32), **values)["bits"]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
@pytest.mark.parametrize("xp", [np, array_api_strict])
def test_the_reference_gives_the_known_answers(xp, counter, key, answer):
    def words(values):
        return tuple(xp.asarray([value], dtype=xp.uint64) for value in values)

    assert tuple(int(word[0]) for word in philox(words(counter), words(key))) == answer


@every_backend
@pytest.mark.parametrize(("counter", "key", "answer"), [KNOWN_ANSWERS[0], KNOWN_ANSWERS[2]])
def test_the_kernel_gives_the_known_answers(run, counter, key, answer):
    """As far as a counter can be reached from the operands: block 0, or one worked out by hand."""
    block, stream, *step = counter
    seed = np.array(key, np.uint32).view(np.int64)
    values = {"seed": seed, "step": np.array(step, np.uint32).view(np.int64), "stream": stream}
    if block:
        # Too far into the stream to fill an array up to there; dropout can start in the middle.
        kept = evaluate(run, "dropout", x=np.ones(4), rate=0.5, first=4 * block, **values)["y"]
        assert [bool(x) for x in kept] == [word >= 2**31 for word in answer]
    else:
        got = evaluate(run, "random_bits", bits=np.zeros(4, np.uint32), **values)["bits"]
        assert tuple(got) == answer


@pytest.mark.parametrize("run", RUN.values(), ids=RUN.keys())
@given(seed=int64s, step=int64s, stream=streams, count=st.integers(0, 9))
def test_every_backend_draws_the_same_bits(run, seed, step, stream, count):
    expected = [oracles.philox_word(seed, step, stream, i) for i in range(count)]
    assert bits(run, count, seed, step, stream).tolist() == expected


@every_backend
@given(first=st.integers(0, 50), count=st.integers(0, 30))
def test_a_slice_of_a_mask_is_the_mask_of_a_slice(run, first, count):
    draw = {"seed": np.array([3]), "step": np.array([5]), "rate": 0.5, "stream": 1}
    whole = evaluate(run, "dropout", x=np.ones(80), **draw)["y"]
    part = evaluate(run, "dropout", x=np.ones(count), first=first, **draw)["y"]
    np.testing.assert_array_equal(part, whole[first : first + count])


@every_backend
def test_a_mask_is_the_bits_above_the_threshold(run):
    rate = 0.3
    draw = {"seed": np.array([3]), "step": np.array([5]), "stream": 1}
    mask = evaluate(run, "dropout", x=np.ones((25, 4)), rate=rate, **draw)["y"] > 0
    words = evaluate(run, "random_bits", bits=np.zeros(100, np.uint32), **draw)["bits"]
    np.testing.assert_array_equal(mask.ravel(), words >= int(rate * 2**32))


@every_backend
def test_a_word_at_the_threshold_is_kept(run):
    word, values = bits(run, 1)[0], {"seed": np.array([1]), "step": np.array([0]), "stream": 0}
    for rate, kept in ((word / 2**32, True), ((word + 1.0) / 2**32, False)):
        y = evaluate(run, "dropout", x=np.ones(1), rate=rate, **values)["y"]
        assert (y != 0) == kept


@every_backend
def test_seed_step_and_stream_each_make_other_bits(run):
    draws = [
        tuple(bits(run, 8, **change))
        for change in (
            {},
            {"seed": 2},
            {"seed": 1 + 2**32},
            {"step": 1},
            {"step": 2**32},
            {"stream": 1},
        )
    ]
    assert len(set(draws)) == len(draws)


@every_backend
def test_the_bits_look_uniform(run):
    """Each of the 32 bits is one half of the time, within five standard deviations."""
    count = 40_000
    words = bits(run, count)
    share = np.array([((words >> i) & 1).mean() for i in range(32)])
    assert np.abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(count)
    assert abs(words.mean() / 2**32 - 0.5) < 5 / np.sqrt(12 * count)
    assert len(np.unique(words)) > count - 5


@every_backend
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.9])
def test_dropout_keeps_the_mean(run, rate):
    count = 40_000
    draw = {"seed": np.array([8]), "step": np.array([0]), "rate": rate, "stream": 0}
    y = evaluate(run, "dropout", x=np.ones(count), **draw)["y"]
    np.testing.assert_allclose(np.unique(y), [0, 1 / (1 - rate)] if rate else [1])
    assert abs(y.mean() - 1) <= 5 * np.sqrt(rate / (1 - rate) / count)


@every_backend
def test_what_is_dropped_is_zero_whatever_it_was(run):
    draw = {"seed": np.array([8]), "step": np.array([0]), "rate": 0.5, "stream": 0}
    kept = evaluate(run, "dropout", x=np.ones(64), **draw)["y"] > 0
    y = evaluate(run, "dropout", x=np.full(64, np.nan), **draw)["y"]
    assert np.isnan(y[kept]).all()
    assert (y[~kept] == 0).all()
