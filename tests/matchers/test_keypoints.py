import math

import numpy as np
import pytest
import torch

from reid.matchers._keypoints import grid_keypoints, saliency, salient_keypoints
from tests.reference import superglue


def feature_map(num: int, *shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, *shape, generator=generator, dtype=torch.float64)


def peaks(*cells: tuple[int, int, float], height: int = 5, width: int = 6) -> torch.Tensor:
    """A map of one channel, 1 everywhere but in the cells (x, y, value)."""
    map_11HW = torch.ones(1, 1, height, width)
    for x, y, value in cells:
        map_11HW[0, 0, y, x] = value
    return map_11HW


def test_a_grid_has_the_centres_of_all_cells():
    found = grid_keypoints(torch.ones(2, 3, 2, 3), 16)
    assert found.point_NK2.tolist() == 2 * [[[8, 8], [24, 8], [40, 8], [8, 24], [24, 24], [40, 24]]]
    assert found.point_NK2.dtype == found.confidence_NK.dtype == torch.float32


def test_saliency_by_hand():
    map_1CHW = torch.tensor([[[[3.0, 0.0], [0.0, 0.0]], [[4.0, 5.0], [1.0, 5.0]]]])
    lengths = np.array([5.0, 5.0, 1.0, 5.0])
    wanted = (lengths - 4) / math.sqrt(3)
    torch.testing.assert_close(saliency(map_1CHW).flatten(), torch.tensor(wanted).float(), rtol=1e-5, atol=1e-5)
    assert saliency(torch.zeros(1, 2, 3, 3)).abs().max() == 0
    assert saliency(torch.full((1, 2, 3, 3), 0.3)).abs().max() < 1


@pytest.mark.parametrize("num", [None, 5, 12, 17])
def test_keypoints_equal_the_loops(num):
    maps = feature_map(3, 4, 6, 2)
    found = grid_keypoints(maps, 16) if num is None else salient_keypoints(maps, 16, num)
    for n in range(3):
        wanted = superglue.keypoints(maps[n].numpy(), 16, num)
        real = slice(0, len(wanted))
        np.testing.assert_allclose(found.point_NK2[n, real], [one[:2] for one in wanted], rtol=1e-6)
        np.testing.assert_allclose(found.confidence_NK[n, real], [one[2] for one in wanted], rtol=1e-6)
    if num == 17:
        assert found.point_NK2.shape == (3, 17, 2)
        assert found.mask_NK.tolist() == 3 * [12 * [True] + 5 * [False]]
    else:
        assert found.mask_NK is None


def test_a_neighbour_of_a_higher_cell_comes_after_all_that_stand_out():
    found = salient_keypoints(peaks((1, 1, 9.0), (2, 1, 8.0), (4, 3, 3.0)), 8, 3)
    cells = (found.point_NK2[0] / 8).floor().tolist()
    assert cells[0] == [1, 1]
    assert cells[1] == [4, 3]


def test_the_place_leans_to_the_higher_neighbour_and_stays_in_the_image():
    x, y = salient_keypoints(peaks((1, 1, 9.0), (2, 1, 8.0)), 8, 1).point_NK2[0, 0].tolist()
    assert 12 < x < 20
    assert y == pytest.approx(12)
    for corner in ((0, 0), (5, 0), (0, 4), (5, 4)):
        x, y = salient_keypoints(peaks((*corner, 3.0)), 8, 1).point_NK2[0, 0].tolist()
        assert 0 < x < 48
        assert 0 < y < 40


def test_a_constant_map_has_its_first_cells():
    found = salient_keypoints(torch.ones(1, 3, 2, 3), 8, 2)
    assert found.point_NK2.isfinite().all()
    assert ((found.confidence_NK > 0) & (found.confidence_NK < 1)).all()
