import math

import numpy as np
import pytest
import torch

from reid.matchers._keypoints import (
    NO_MATCH,
    AssignmentOutputs,
    grid_keypoints,
    hard_matches,
    mutual_matches,
    pair_scores,
    saliency,
    salient_keypoints,
)
from reid.nn.transport import log_assignment
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


def outputs_of(mass: list[list[float]]) -> AssignmentOutputs:
    log_1KK = torch.tensor([mass]).log()
    num = log_1KK.shape[1] - 1
    points = torch.arange(2.0 * num).view(1, num, 2)
    scores = pair_scores(log_1KK, torch.zeros(1, num, num), torch.zeros(1, num, num), torch.tensor(1.0), 0.2)
    return AssignmentOutputs(scores.odds_N, log_1KK, points, points + 100, torch.zeros(1), scores)


MASS = [
    [0.10, 0.60, 0.00, 0.30],
    [0.05, 0.35, 0.10, 0.50],
    [0.19, 0.00, 0.01, 0.80],
    [0.66, 0.05, 0.89, 1.40],
]


def test_matches_are_mutual_and_above_the_threshold():
    idx, mass = mutual_matches(outputs_of(MASS).log_assignment_NKK, 0.2)
    torch.testing.assert_close(mass, torch.tensor([[0.6, 0.0, 0.0]]))  # row 1's best column prefers row 0; 0.19 < 0.2
    assert idx[0, 0] == 1
    assert mutual_matches(outputs_of(MASS).log_assignment_NKK, 0.1)[1].count_nonzero() == 2
    (found,) = hard_matches(outputs_of(MASS), 0.1)
    assert found.kind == "assignment"
    assert found.query_N2.tolist() == [[0, 1], [4, 5]]
    assert found.gallery_N2.tolist() == [[102, 103], [100, 101]]
    torch.testing.assert_close(found.confidence_N, torch.tensor([0.6, 0.19]))


def test_scores_by_hand():
    log = torch.tensor([MASS]).log()
    score, cosine = torch.zeros(1, 3, 3), torch.zeros(1, 3, 3)
    score[0, 0, 1], cosine[0, 0, 1], cosine[0, 2, 0] = 5.0, 1.0, -0.5
    found = pair_scores(log, score, cosine, torch.tensor(2.0), 0.2)
    total, alone = 1.4, 1.6  # both sides' unmatched mass
    assert found.mass_N.item() == pytest.approx(total / 3)
    assert found.odds_N.item() == pytest.approx(math.log(total / alone))
    assert found.sim_N.item() == pytest.approx((0.6 - 0.5 * 0.19) / total)
    assert found.ot_N.item() == pytest.approx((5 * 0.6 + 2 * (1.6 + 3.0)) / 6)
    assert found.count_N.item() == 1


def test_scores_equal_the_loops():
    generator = torch.Generator().manual_seed(0)
    score = 3 * torch.randn(4, 5, 5, generator=generator, dtype=torch.float64)
    images = [
        superglue.encode(m.numpy(), {"project.weight": np.eye(3), "project.bias": np.zeros(3)}, 8, (40, 8))
        for m in feature_map(2, 3, 5, 1)
    ]
    descriptors = [torch.tensor(np.array(image.descriptors)) for image in images]
    cosine = (descriptors[0] @ descriptors[1].T).expand(4, 5, 5)
    log = log_assignment(score, torch.tensor(1.0), 4)
    found = pair_scores(log, score, cosine, torch.tensor(1.0), 0.2)
    for n in range(4):
        wanted = superglue.pair_scores(log[n].exp().numpy(), score[n].numpy(), *images, 1.0, 0.2)
        for name, value in wanted.items():
            assert getattr(found, f"{name}_N")[n].item() == pytest.approx(value, rel=1e-9)


def test_without_keypoints_every_score_is_lowest_and_nothing_matches():
    score = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    none = torch.tensor([[True, True, False], [False, False, False]])
    for masks in ((none, None), (None, none), (none, none)):
        log = log_assignment(score, torch.tensor(1.0), 5, query_mask_NK=masks[0], gallery_mask_NL=masks[1])
        found = pair_scores(log, score, score.tanh(), torch.tensor(1.0), 0.2)
        lowest = {"mass_N": 0.0, "sim_N": -1.0, "ot_N": NO_MATCH, "count_N": 0.0, "odds_N": NO_MATCH}
        for name, value in lowest.items():
            assert getattr(found, name)[1] == value
            assert getattr(found, name)[0] > value or name == "count_N"
        points = torch.zeros(2, 3, 2)
        outputs = AssignmentOutputs(found.odds_N, log, points, points, torch.zeros(2), found)
        assert len(hard_matches(outputs, 0.01)[1].confidence_N) == 0
        sum(getattr(found, name).sum() for name in lowest).backward()
        assert score.grad.isfinite().all()


def test_odds_do_not_saturate():
    for odds in (-40.0, 40.0):
        log = torch.tensor([[[min(odds, 0.0), min(-odds, 0.0)], [min(-odds, 0.0), min(odds, 0.0)]]])
        found = pair_scores(log, torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), torch.tensor(1.0), 0.2)
        assert found.odds_N.item() == pytest.approx(odds)


def test_outputs_are_joined_in_order():
    parts = [outputs_of(MASS), outputs_of([[x / 2 for x in row] for row in MASS])]
    joined = AssignmentOutputs.cat(parts)
    assert joined.logit_N.shape == (2,)
    assert torch.equal(joined.log_assignment_NKK[1:], parts[1].log_assignment_NKK)
    assert torch.equal(joined.scores.ot_N[:1], parts[0].scores.ot_N)
    assert joined.query_mask_NK is None
    assert joined.cell_px is None
