"""The order of random words: the same as of any stable sort."""

import numpy as np
import pytest

from gpubp.kernels.numba.order import sorting


@pytest.mark.parametrize("count", [0, 1, 2, 1000, 70_000])
@pytest.mark.parametrize("highest", [3, 2**11, 2**22, 2**32])
def test_words_are_sorted_and_equal_ones_stay_as_they_are(count, highest):
    words = np.random.default_rng(count).integers(0, highest, count, dtype=np.uint32)
    before = words.copy()
    sort, order = sorting(words)
    for _ in range(2):
        sort()
        np.testing.assert_array_equal(order, np.argsort(words, kind="stable"))
    np.testing.assert_array_equal(words, before)
