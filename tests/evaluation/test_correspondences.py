import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from reid.evaluation.baselines import grid_points
from reid.evaluation.correspondences import found_at, truth_at
from reid.nn.truth import TEAR_PX
from reid.types import Correspondences
from tests.evaluation.truths import dense, found, shifted


def test_a_dense_warp_is_read_between_pixels():
    truth = shifted(8, 8, 0, 0)
    truth.to_gallery.position_NHW2[..., 0] *= 1.25
    there, confidence = found_at(dense(truth.to_gallery, 0, torch.arange(64.0)), np.array([[4.0, 4.0], [2.5, 2.5]]))
    np.testing.assert_allclose(there, [[5.0, 4.0], [3.125, 2.5]])
    np.testing.assert_allclose(confidence, [(27 + 28 + 35 + 36) / 4, 18])


def test_far_from_all_correspondences_there_is_nothing():
    there, confidence = found_at(found([(1, 1)], [(2, 1)], [0.3]), np.array([[1.0, 3.0], [1.0, 3.1]]), reach_px=2.0)
    np.testing.assert_allclose(there, [[2, 3], [np.nan, np.nan]])
    np.testing.assert_allclose(confidence, [0.3, -np.inf])


def test_there_is_no_truth_across_a_tear():
    """An arm before a torso: neighbours that come to lie far apart."""
    truth = shifted(8, 8, 0, 0).to_gallery
    truth.position_NHW2[0, :, 4:, 1] += 2 * TEAR_PX
    spots = truth_at(truth, 0, np.array([[3.5, 3.5], [4.0, 3.5], [4.5, 3.5], [2.0, 2.0]]))
    assert spots.known_M.tolist() == [True, False, True, True]
    np.testing.assert_allclose(spots.position_M2[[0, 2, 3]], [[3.5, 3.5], [4.5, 3.5 + 2 * TEAR_PX], [2, 2]])


def test_between_visible_and_hidden_nothing_is_known():
    truth = shifted(8, 8, 0, 0).to_gallery
    truth.visible_NHW[0, :, 4:] = False
    truth.position_NHW2[0, :, 4:] = 1e6
    spots = truth_at(truth, 0, np.array([[3.5, 2.0], [4.0, 2.0], [4.5, 2.0]]))
    assert spots.known_M.tolist() == [True, False, True]
    assert spots.visible_M.tolist() == [True, False, False]


def test_the_border_belongs_to_its_pixels():
    spots = truth_at(shifted(8, 4, 0, 0).to_gallery, 0, np.array([[0.0, 0.0], [4.0, 8.0]]))
    assert spots.known_M.all()
    np.testing.assert_allclose(spots.position_M2, [[0.5, 0.5], [3.5, 7.5]])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_warp_on_cells_equals_scipys_interpolation(seed):
    """Rows and columns in any order; beyond the outermost centres the displacement stays."""
    rng = np.random.default_rng(seed)
    at = rng.random((20, 2)) * (16, 24)
    order = rng.permutation(24)
    query = grid_points((24, 16), 4)[order]
    shift, confidence = torch.from_numpy(rng.normal(size=(24, 2))).float(), torch.from_numpy(rng.random(24)).float()
    there, sure = found_at(Correspondences(query, query + shift, confidence, "warp"), at)
    told = np.empty((24, 3))
    told[order] = torch.column_stack((shift, confidence))
    axes = np.arange(2, 24, 4), np.arange(2, 16, 4)
    wanted = RegularGridInterpolator(axes, told.reshape(6, 4, 3))(at[:, ::-1].clip(2, (22, 14)))
    np.testing.assert_allclose(there, at + wanted[:, :2], atol=1e-5)
    np.testing.assert_allclose(sure, wanted[:, 2], atol=1e-5)


def test_a_warp_that_is_no_grid_is_a_step_function():
    places = [(1, 1), (5, 1), (1, 5), (1, 5)]
    gallery = [(2, 1), (7, 1), (4, 5), (6, 5)]
    for query in (places, places[:3], [(1, 1), (2, 2), (3, 3), (9, 9)]):
        one = found(query, gallery[: len(query)], kind="warp")
        there, _ = found_at(one, np.array([[1.0, 1.2]]))
        np.testing.assert_allclose(there, [[2.0, 1.2]])
    twice, _ = found_at(found(places, gallery, kind="warp"), np.array([[1.0, 5.5]]))
    np.testing.assert_allclose(twice, [[5.0, 5.5]])  # the mean of both


def test_equally_near_correspondences_are_averaged():
    one = found([(1, 1), (5, 1), (9, 1)], [(2, 1), (8, 2), (9, 9)], [0.2, 0.4, 0.9], "maximum")
    there, confidence = found_at(one, np.array([[3.0, 1.0], [3.1, 1.0]]))
    np.testing.assert_allclose(there, [[5.0, 1.5], [6.1, 2.0]])
    np.testing.assert_allclose(confidence, [0.3, 0.4], atol=1e-7)


def test_no_correspondences_lead_nowhere():
    there, confidence = found_at(found([], []), np.ones((2, 2)))
    assert np.isnan(there).all()
    assert (confidence == -np.inf).all()
