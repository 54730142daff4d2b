import numpy as np
import pytest

from reid.errors import ShapeError
from reid.reranking._pivots import by_camera, permuted, pivots
from reid.reranking._sightings import Sightings

GALLERY = Sightings(np.array([2, 0, 2, 0, 2]), np.zeros(5))
CAMERAS = by_camera(GALLERY)  # images 1 3 | 0 2 4


def test_the_gallery_camera_by_camera():
    assert CAMERAS.order_G.tolist() == [1, 3, 0, 2, 4]
    assert CAMERAS.parts == (slice(0, 2), slice(2, 5))
    ((start, stop, rows_BG),) = permuted(np.arange(10.0).reshape(2, 5), CAMERAS.order_G)
    assert (start, stop, rows_BG.tolist()) == (0, 2, [[1, 3, 0, 2, 4], [6, 8, 5, 7, 9]])


def test_the_best_at_each_camera_are_pivots():
    score_QG = np.array([[0.5, 0.1, 0.9, 0.2, 0.7]])
    query = Sightings(np.array([1]), np.array([0.0]))
    found = pivots(score_QG, query, CAMERAS, num=1, tau_s=1.0)
    assert found.toarray().tolist() == [[0, 1, 0, 1, 0]]  # image 3, and image 2
    found = pivots(score_QG, query, CAMERAS, num=2, tau_s=1.0)
    assert found.toarray().tolist() == [[0.5, 0.5, 0, 0.5, 0.5]]
    tied = pivots(np.array([[0.9, 0.1, 0.9, 0.2, 0.7]]), query, CAMERAS, num=1, tau_s=1.0)
    assert tied.toarray().tolist() == [[0, 1, 0.5, 0.5, 0]]


def test_queries_that_passed_together_share_pivots():
    score_QG = np.array([[0.5, 0.1, 0.9, 0.2, 0.7], [0.8, 0.3, 0.1, 0.1, 0.1]])
    query = Sightings(np.array([1, 1]), np.array([0.0, 3.0]))
    apart = pivots(score_QG, query, CAMERAS, num=1, tau_s=3.0)
    assert apart.toarray().tolist() == [[0, 1, 0, 1, 0], [1, 0, 1, 0, 0]]
    together = pivots(score_QG, query, CAMERAS, num=1, tau_s=3.1)  # 0.3 of the second, 0.9 of the first
    assert together.toarray().tolist() == [[1, 0, 0, 1, 0]] * 2


def test_scores_below_zero_are_refused():
    with pytest.raises(ShapeError, match="finite scores of at least 0"):
        pivots(np.full((1, 5), -0.1), Sightings(np.array([1]), np.array([0.0])), CAMERAS, num=1, tau_s=1.0)
