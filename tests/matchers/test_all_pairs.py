import pytest
import torch

from reid.errors import ShapeError
from reid.matchers import _all_pairs
from reid.matchers._all_pairs import AllPairsMatcher, best_positions
from reid.types import ImageState


def states(num: int) -> ImageState:
    return ImageState({"x": torch.arange(num, dtype=torch.float32)})


class Counting(AllPairsMatcher):
    """Scores pairs of numbers, with one position of one channel; notes the size of every block."""

    field_shape = (1, 1)

    def __init__(self):
        super().__init__()
        self.pairs = []

    def score_block(self, query, gallery):
        self.pairs.append(len(query) * len(gallery))
        return query["x"][:, None] * 100 + gallery["x"]

    encode = pair = parameter_groups = None


@pytest.mark.parametrize("limit", [1, 64, 560, 10**9])
def test_blocks_cover_every_pair_once_within_the_limit(monkeypatch, limit):
    monkeypatch.setattr(_all_pairs, "TEMPORARY_BYTES", limit)
    matcher = Counting().eval()
    found = matcher.score(states(5), states(7))
    assert found.tolist() == [[100.0 * q + g for g in range(7)] for q in range(5)]
    assert max(matcher.pairs) * 16 <= max(limit, 16)  # four float32 values a position
    assert (len(matcher.pairs) == 1) == (limit >= 560)


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0)])
def test_no_images_are_an_error(sizes):
    with pytest.raises(ShapeError, match=f"at least one each, found {sizes[0]} and {sizes[1]}"):
        Counting().eval().score(*map(states, sizes))


def test_in_training_all_pairs_are_one_block(monkeypatch):
    monkeypatch.setattr(_all_pairs, "TEMPORARY_BYTES", 1)
    matcher = Counting().train()
    matcher.score(states(5), states(7))
    assert matcher.pairs == [35]


def test_cells_of_a_map_that_does_not_divide_the_image():
    found = best_positions(torch.eye(6), 3, 2, (10, 5))  # cells of 2.5 x 10 / 3 pixels
    assert found.query_N2[0].tolist() == pytest.approx([1.25, 5 / 3])
    assert found.query_N2[5].tolist() == pytest.approx([3.75, 25 / 3])
    assert torch.equal(found.query_N2, found.gallery_N2)
    assert found.confidence_N.tolist() == [1.0] * 6
