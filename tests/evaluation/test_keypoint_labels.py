import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.errors import ShapeError
from reid.evaluation.baselines import grid_points
from reid.evaluation.keypoint_labels import IGNORED, UNMATCHED, keypoint_labels
from reid.nn.truth import TEAR_PX
from tests.evaluation.truths import as_lists, points, rough, shifted
from tests.reference import correspondences as reference

NEAR = {"positive_px": 3.0, "negative_px": 5.0}


def test_labels_by_hand():
    """Shifted by (4, 0): the first matches, the second's partner is 4 px off, the third has none, the last leaves."""
    truth = shifted(32, 32, 4, 0)
    query = points((4, 4), (4, 12), (4, 24), (30, 4))
    gallery = points((8, 5), (12, 12))
    labels = keypoint_labels(query, gallery, truth, 0, **NEAR)
    assert labels.query_K.tolist() == [0, IGNORED, UNMATCHED, UNMATCHED]
    assert labels.gallery_L.tolist() == [0, IGNORED]


def test_only_the_nearest_of_two_matches():
    labels = keypoint_labels(points((10, 10), (11, 10)), points((10.2, 10)), shifted(32, 32, 0, 0), 0, **NEAR)
    assert labels.query_K.tolist() == [0, IGNORED]
    assert labels.gallery_L.tolist() == [0]


def test_what_is_not_known_is_ignored():
    truth = shifted(32, 32, 0, 0)
    truth.to_gallery.known_NHW[0, 9:12, 9:12] = False
    labels = keypoint_labels(points((10, 10), (20, 20)), points((10, 10), (29, 29)), truth, 0, **NEAR)
    assert labels.query_K.tolist() == [IGNORED, UNMATCHED]
    assert labels.gallery_L.tolist() == [IGNORED, UNMATCHED]


def test_on_a_grid_half_a_cell_matches_and_a_whole_one_is_another():
    """Spec: positive within 0.71 of the stride, unmatched beyond the stride."""
    centres = grid_points((64, 32), 16)
    limits = {"positive_px": 0.71 * 16, "negative_px": 16.0}
    assert keypoint_labels(centres, centres, shifted(64, 32, 5, -5), 0, **limits).query_K[2:].tolist() == [
        2,
        3,
        4,
        5,
        6,
        7,
    ]
    moved = keypoint_labels(centres, centres, shifted(64, 32, 0, 16), 0, **limits)
    assert moved.query_K.tolist() == [2, 3, 4, 5, 6, 7, UNMATCHED, UNMATCHED]
    assert moved.gallery_L.tolist() == [UNMATCHED, UNMATCHED, 0, 1, 2, 3, 4, 5]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), num=st.tuples(st.integers(0, 8), st.integers(0, 8)))
def test_labels_equal_slow_loops(seed, num):
    rng = np.random.default_rng(seed)
    truth = rough(rng, 10, 8, num=2)
    query, gallery = (torch.from_numpy(rng.random((count, 2)) * (8, 10)).float() for count in num)
    labels = keypoint_labels(query, gallery, truth, 1, positive_px=1.5, negative_px=2.5)
    there = [reference.truth_at(as_lists(truth.to_gallery, 1), *point, TEAR_PX) for point in query.tolist()]
    back = [reference.truth_at(as_lists(truth.to_query, 1), *point, TEAR_PX) for point in gallery.tolist()]
    own, other = query.tolist(), gallery.tolist()
    assert labels.query_K.tolist() == reference.labels(own, other, there, back, 1.5, 2.5)
    assert labels.gallery_L.tolist() == reference.labels(other, own, back, there, 1.5, 2.5)


def test_thresholds_in_order():
    here = points((5, 5), (9, 9))
    with pytest.raises(ShapeError, match="found 5 and 3"):
        keypoint_labels(here, here, shifted(16, 16, 0, 0), 0, positive_px=5, negative_px=3)
