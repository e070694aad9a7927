"""Columns of texts: different texts have different codes, whatever their length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubp.data import cells
from gpubp.data.cells import Cells

texts = st.text(st.sampled_from('ab"é '), max_size=40).map(str.strip)


@pytest.mark.parametrize("factor", [cells._FACTOR, np.uint64(0)], ids=["spread", "all collide"])
@given(each=st.lists(texts, min_size=1, max_size=12))
def test_texts_come_back_and_their_levels_differ(factor, each):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "_FACTOR", factor)
        column = Cells.of(each)
        assert column.tolist() == each
        assert len(set(column.texts.levels)) == len(column.texts.levels)
        assert column.texts.present() == sorted(set(each))
        assert column.texts.where(each[:1]).tolist() == [text == each[0] for text in each]


@given(each=st.lists(texts, min_size=1, max_size=12), data=st.data())
def test_rows_taken_of_rows_taken(each, data):
    rows = st.integers(0, len(each) - 1)
    first = data.draw(st.lists(rows, min_size=1, max_size=6))
    second = data.draw(st.lists(st.integers(0, len(first) - 1), max_size=6))
    column = Cells.of(each).take(np.array(first, np.intp)).take(np.array(second, np.intp))
    right = [each[first[row]] for row in second]
    assert column.tolist() == right
    assert len(column) == len(right)
    assert column.is_missing.tolist() == [text == "" for text in right]
    if right:
        assert column.first(np.ones(len(right), np.bool_)) == right[0]
