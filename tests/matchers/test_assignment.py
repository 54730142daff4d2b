import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from reid.evaluation.pair_scores import roc_auc
from reid.matchers._assignment import (
    NO_MATCH,
    AssignmentOutputs,
    Calibration,
    PairScores,
    hard_matches,
    mutual_matches,
    pair_scores,
)
from reid.nn.transport import log_assignment
from tests.reference import superglue


def outputs_of(mass: list[list[float]]) -> AssignmentOutputs:
    log_1KK = torch.tensor([mass]).log()
    num = log_1KK.shape[1] - 1
    points = torch.arange(2.0 * num).view(1, num, 2)
    scores = pair_scores(log_1KK, torch.zeros(1, num, num), torch.zeros(1, num, num), torch.tensor(1.0), 0.2)
    return AssignmentOutputs(scores.odds_N, log_1KK, points, points + 100, scores)


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
        superglue.encode(
            m.numpy(), {"keypoints.project.weight": np.eye(3), "keypoints.project.bias": np.zeros(3)}, 8, (40, 8)
        )
        for m in torch.randn(2, 3, 5, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
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
        outputs = AssignmentOutputs(found.odds_N, log, points, points, found)
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
    assert list(joined.other_scores) == ["mass", "sim", "ot", "count", "odds"]
    assert torch.equal(joined.other_scores["count"], joined.scores.count_N)
    assert torch.equal(joined.log_assignment_NKK[1:], parts[1].log_assignment_NKK)
    assert torch.equal(joined.scores.ot_N[:1], parts[0].scores.ot_N)
    assert joined.query_mask_NK is None
    assert joined.cell_px is None


def test_a_short_stage_weighs_similarity_above_odds_that_vary_more_and_say_less():
    """As after learning where things lie: by similarities an AUC of 0.9, by odds, which differ by units, of 0.73."""
    generator = torch.Generator().manual_seed(0)
    same_N = torch.arange(1000) % 2 == 0
    noise_2N = torch.randn(2, 1000, generator=generator)
    sim_N, odds_N = 0.4 + 0.2 * same_N + 0.11 * noise_2N[0], 1 + 0.85 * same_N + noise_2N[1]
    none_N = torch.zeros(1000)
    scores = PairScores(mass_N=none_N, sim_N=sim_N, ot_N=none_N, count_N=none_N, odds_N=odds_N)
    head = Calibration()
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.03, weight_decay=0.0)
    for _ in range(100):
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(head(scores), same_N.float()).backward()
        optimizer.step()
    with torch.no_grad():
        assert roc_auc(head(scores).numpy(), same_N.numpy()) > roc_auc(sim_N.numpy(), same_N.numpy())
