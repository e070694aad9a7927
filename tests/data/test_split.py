"""The split: every row once, groups in proportion, and the same for a seed for ever."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubp.data.split import split
from gpubp.errors import InputError

shares = st.floats(0, 0.49)


@given(
    groups=st.lists(st.integers(0, 4), min_size=1, max_size=300),
    validation=shares,
    test=shares,
    seed=st.integers(0, 2**64),
)
def test_every_row_once_and_groups_in_proportion(groups, validation, test, seed):
    groups = np.array(groups)
    parts = split(groups, validation=validation, test=test, seed=seed)
    rows = np.concatenate([parts.train, parts.validation, parts.test])
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(groups)))
    assert len(parts.train) >= 1
    for part, share in ((parts.test, test), (parts.validation, validation)):
        assert abs(len(part) - share * len(groups)) < 1.5
        for group in np.unique(groups):
            members = groups == group
            assert abs(members[part].sum() - share * members.sum()) < 2.5


def test_the_split_of_a_seed_never_changes():
    parts = split(np.arange(12) % 3, validation=0.25, test=0.25, seed=7)
    assert parts.test.tolist() == [0, 1, 5]
    assert parts.validation.tolist() == [7, 8, 9]


def test_seeds_differ_and_rows_are_shuffled():
    tests = [tuple(split(np.zeros(50), validation=0, test=0.5, seed=s).test) for s in range(20)]
    assert len(set(tests)) == 20
    drawn = np.bincount(np.concatenate(tests), minlength=50)
    assert drawn.min() > 0
    assert drawn.max() < 20


def test_nothing_held_out():
    parts = split(np.zeros(5), validation=0, test=0, seed=0)
    assert parts.train.tolist() == [0, 1, 2, 3, 4]
    assert len(parts.validation) == len(parts.test) == 0


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0), (0, -0.1), (0.5, 0.5), (0, 1)])
def test_shares_that_leave_nothing_are_refused(validation, test):
    with pytest.raises(InputError, match="at least 0 and below 1 together"):
        split(np.zeros(5), validation=validation, test=test, seed=0)
