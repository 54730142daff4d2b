import math

import pytest
import torch

from reid.matchers._dense import DenseDirection, DenseStep
from reid.matchers._evidence import Evidence
from reid.matchers._roma_evidence import evidence
from reid.nn.grid import cell_centres

GRID = cell_centres(4, 2, 4, torch.zeros(1, dtype=torch.float64))  # of an image of 16 x 8


def both(there: torch.Tensor, back: torch.Tensor, certainty: torch.Tensor, anchors: torch.Tensor | None = None):
    """One pair: a warp each way."""
    return DenseDirection((DenseStep(4, torch.stack((there, back)), certainty),), anchors)


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def flat(*shares: float) -> torch.Tensor:
    return torch.stack([torch.full((4, 2), logit(share), dtype=torch.float64) for share in shares])


def maps(seed: int = 0) -> torch.Tensor:
    """Two images' features, 2 x 1 cells of stride 8."""
    return torch.randn(2, 3, 2, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_a_perfect_match():
    own = maps()
    found = evidence(both(GRID, GRID, flat(0.9, 0.7)), own, own, 8, 8.0)
    assert found.certainty_N.item() == pytest.approx(0.8)
    assert found.gap_N.item() == pytest.approx(0.2)
    assert found.similarity_N.item() == pytest.approx(1.0)
    assert found.cycle_N.item() == pytest.approx(1 / (1 + math.exp(-4)), rel=1e-3)
    assert found.entropy_N is None
    assert found.stacked().shape == (1, 4)


def test_similarity_is_weighted_by_certainty():
    own = maps()
    cell = torch.nn.functional.normalize(own, dim=1)
    swapped = GRID.clone()
    swapped[..., 1] = (swapped[..., 1] + 8) % 16  # the upper half lies in the lower, and the other way round
    certainty = flat(0.5, 0.5)
    certainty[:, :2] = logit(0.8)
    certainty[:, 2:] = logit(0.2)
    other = maps(1)
    unit = torch.nn.functional.normalize(other, dim=1)
    found = evidence(both(swapped, swapped, certainty), own, other, 8, 8.0)
    wanted = [
        0.8 * (cell[n, :, 0, 0] @ unit[n, :, 1, 0]) + 0.2 * (cell[n, :, 1, 0] @ unit[n, :, 0, 0]) for n in range(2)
    ]
    assert found.similarity_N.item() == pytest.approx(float(sum(wanted) / 2))


def test_cells_that_do_not_come_back():
    shift = torch.tensor([6.0, 0.0], dtype=torch.float64)
    back = evidence(both(GRID + shift, GRID - shift, flat(0.5, 0.5)), maps(), maps(), 8, 6.0)
    assert back.cycle_N.item() == pytest.approx(1 / (1 + math.exp(-4)), rel=1e-3)  # beyond the border too
    limit = evidence(both(GRID + shift, GRID, flat(0.5, 0.5)), maps(), maps(), 8, 6.0)
    assert limit.cycle_N.item() == pytest.approx(0.5, rel=1e-4)
    lost = evidence(both(GRID + 4 * shift, GRID, flat(0.5, 0.5)), maps(), maps(), 8, 6.0)
    assert lost.cycle_N.item() < 1e-4


def test_what_lies_outside_is_similar_to_nothing():
    away = GRID + 100
    found = evidence(both(away, away, flat(0.5, 0.5)), maps(), maps(), 8, 8.0)
    assert found.similarity_N.item() == 0


def test_entropy():
    anchors = torch.full((2, 4, 2, 1), -1e9, dtype=torch.float64)
    anchors[0] = 0.0  # all four alike
    anchors[1, :2] = 0.0  # two of four
    found = evidence(both(GRID, GRID, flat(0.5, 0.5), anchors), maps(), maps(), 8, 8.0)
    assert found.entropy_N.item() == pytest.approx((1 + 0.5) / 2)
    assert found.stacked().shape == (1, 5)


def test_exchanging_the_images_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    warp = [GRID + 3 * torch.randn(4, 2, 2, dtype=torch.float64, generator=generator) for _ in range(2)]
    certainty, own, other = flat(0.9, 0.3), maps(0), maps(1)
    there = evidence(both(warp[0], warp[1], certainty), own, other, 8, 8.0).stacked()
    back = evidence(both(warp[1], warp[0], certainty.flip(0)), own.flip(0), other.flip(0), 8, 8.0).stacked()
    torch.testing.assert_close(there, back)


def test_no_certainty_at_all_is_not_nan():
    certainty = torch.full((2, 4, 2), -1e4, dtype=torch.float64)
    found = evidence(both(GRID, GRID, certainty), maps(), maps(), 8, 8.0)
    assert found.stacked().isfinite().all()


def test_parts_join_again():
    certainty, own, other = flat(0.9, 0.3), maps(0), maps(1)
    anchors = torch.zeros(2, 4, 2, 1, dtype=torch.float64)
    for anchor in (None, anchors):
        one = evidence(both(GRID, GRID, certainty, anchor), own, other, 8, 8.0)
        two = evidence(both(GRID, GRID, flat(0.5, 0.5), anchor), other, own, 8, 8.0)
        joined = Evidence.cat([one, two])
        torch.testing.assert_close(joined.stacked(), torch.cat((one.stacked(), two.stacked())))
        torch.testing.assert_close(joined.certainty_sim_N[0], 0.6 * one.similarity_N[0])
