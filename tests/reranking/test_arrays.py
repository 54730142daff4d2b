import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.errors import ShapeError
from reid.reranking._arrays import blocks, score_array


@given(num=st.integers(0, 50), row_bytes=st.integers(1, 100), block_bytes=st.integers(1, 1000))
def test_blocks_cover_all_rows_within_the_bytes(num, row_bytes, block_bytes):
    parts = list(blocks(num, row_bytes, block_bytes))
    assert [row for start, stop in parts for row in range(start, stop)] == list(range(num))
    assert all((stop - start) * row_bytes <= max(block_bytes, row_bytes) for start, stop in parts)


def test_given_arrays_are_used_as_they_are():
    out = np.zeros((2, 3), np.float32)
    assert score_array("here", (2, 3), out, np.float32) is out
    with pytest.raises(ShapeError, match=r"here: wanted an array for scores.*found \[2, 3\], float32"):
        score_array("here", (2, 3), out, np.float64)
