import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.data.warps._occluders import occluded


def gradient(height, width):
    """Every pixel has a colour of its own, for up to 256 x 256."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([y % 256, x, y // 256], -1).astype(np.uint8)


@given(st.integers(0, 100_000), st.sampled_from([(128, 64), (384, 128), (32, 16)]))
@settings(max_examples=60, deadline=None)
def test_something_is_hidden_and_the_rest_is_as_it_was(seed, size):
    view = gradient(*size)
    shown, hidden = occluded(view, view, np.random.default_rng(seed))
    assert 0 < hidden.sum() < 0.4 * hidden.size
    np.testing.assert_array_equal(shown[~hidden], view[~hidden])
    assert shown.dtype == np.uint8
    assert (shown[hidden] != view[hidden]).any(1).mean() > 0.9


def test_textures_come_from_the_picture_or_not():
    view, source = np.zeros((128, 64, 3), np.uint8), np.full((128, 64, 3), (9, 8, 7), np.uint8)
    cut = [
        (shown[hidden] == (9, 8, 7)).all()
        for shown, hidden in (occluded(view, source, np.random.default_rng(k)) for k in range(300))
    ]
    assert 0.6 < np.mean(cut) < 0.8


def test_a_cut_piece_lies_far_from_where_it_was():
    view = gradient(128, 64)
    for seed in range(100):
        shown, hidden = occluded(np.zeros_like(view), view, np.random.default_rng(seed))
        rows = np.nonzero(hidden)[0]
        away = np.abs(shown[hidden][:, 0].astype(int) - rows)
        if not shown[hidden][:, 2].any():  # of the picture, not blotches
            assert np.minimum(away, 128 - away).min() >= 31


def test_rectangles_and_polygons():
    boxed = []
    for seed in range(200):
        hidden = occluded(gradient(128, 64), gradient(128, 64), np.random.default_rng(seed))[1]
        rows, columns = np.nonzero(hidden.any(1))[0], np.nonzero(hidden.any(0))[0]
        boxed.append(hidden.sum() == len(rows) * len(columns))
    assert 0.35 < np.mean(boxed) < 0.65


def test_the_generator_decides():
    view = gradient(128, 64)
    first, second, other = (occluded(view, view, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert (first[1] != other[1]).any()
