import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.errors import ShapeError
from reid.evaluation.baselines import grid_points, identity_matches, identity_warp, nearest_neighbours
from reid.evaluation.warp_metrics import warp_metrics
from tests.evaluation.truths import shifted
from tests.reference import correspondences as reference


def test_cells_row_by_row():
    assert grid_points((4, 6), 2).tolist() == [[1, 1], [3, 1], [5, 1], [1, 3], [3, 3], [5, 3]]
    assert grid_points((1, 2)).tolist() == [[0.5, 0.5], [1.5, 0.5]]


def test_the_identity_warp_is_off_by_the_shift():
    metrics = warp_metrics([identity_warp((16, 8))], shifted(16, 8, 3, 4).to_gallery)
    assert metrics.mean_px == metrics.median_px == pytest.approx(5)
    assert metrics.pck == {2.0: 0.0, 4.0: 0.0, 8.0: 1.0}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), num=st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_nearest_neighbours_equal_slow_loops(seed, num):
    rng = np.random.default_rng(seed)
    query_D, gallery_D = (torch.from_numpy(rng.normal(size=(count, 3))) for count in num)
    query_2, gallery_2 = (torch.from_numpy(rng.random((count, 2))).float() for count in num)
    found = nearest_neighbours(query_D, gallery_D, query_2, gallery_2)
    wanted = reference.nearest(query_D.tolist(), gallery_D.tolist())
    assert found.kind == "assignment"
    assert found.query_N2.tolist() == query_2[[i for i, _, _ in wanted]].tolist()
    assert found.gallery_N2.tolist() == gallery_2[[j for _, j, _ in wanted]].tolist()
    assert found.confidence_N.tolist() == pytest.approx([cosine for _, _, cosine in wanted], abs=1e-6)
    assert {tensor.dtype for tensor in (found.query_N2, found.gallery_N2, found.confidence_N)} == {torch.float32}


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_mutual_neighbours_do_not_depend_on_the_roles(seed):
    rng = np.random.default_rng(seed)
    query_D, gallery_D = (torch.from_numpy(rng.normal(size=(count, 4))) for count in (7, 5))
    query_2, gallery_2 = grid_points((7, 1)), grid_points((1, 5))
    there = nearest_neighbours(query_D, gallery_D, query_2, gallery_2)
    back = nearest_neighbours(gallery_D, query_D, gallery_2, query_2)

    def as_set(one, two):
        return {(*a, *b) for a, b in zip(one.tolist(), two.tolist(), strict=True)}

    assert as_set(there.query_N2, there.gallery_N2) == as_set(back.gallery_N2, back.query_N2)


def test_matches_by_place():
    query, gallery = torch.tensor([[1.0, 1.0], [5.0, 5.0], [6.0, 5.0]]), torch.tensor([[5.0, 8.0], [1.0, 2.0]])
    found = identity_matches(query, gallery)
    assert found.kind == "assignment"
    assert found.query_N2.tolist() == [[1, 1], [5, 5]]
    assert found.gallery_N2.tolist() == [[1, 2], [5, 8]]
    assert found.confidence_N.tolist() == pytest.approx([-1, -3], abs=1e-5)


@pytest.mark.parametrize("num", [(0, 3), (3, 0), (0, 0)])
def test_no_keypoints_no_matches(num):
    features, places = [torch.ones(count, 4) for count in num], [torch.ones(count, 2) for count in num]
    found = nearest_neighbours(*features, *places)
    assert (found.query_N2.shape, found.gallery_N2.shape, found.confidence_N.shape) == ((0, 2), (0, 2), (0,))


def test_shapes_that_do_not_fit():
    good = torch.ones(3, 4), torch.ones(2, 4), torch.ones(3, 2), torch.ones(2, 2)
    for place, wrong in ((0, torch.ones(2, 4)), (1, torch.ones(2, 5)), (3, torch.ones(3, 2))):
        with pytest.raises(ShapeError, match=r"nearest_neighbours: wanted descriptors \[K, D\] and \[L, D\]"):
            nearest_neighbours(*good[:place], wrong, *good[place + 1 :])


def test_many_keypoints_at_the_same_places_are_no_distance_apart():
    place = 300 * torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    found = identity_matches(place, place)
    assert found.query_N2.tolist() == found.gallery_N2.tolist() == place.tolist()
    assert not found.confidence_N.any()
