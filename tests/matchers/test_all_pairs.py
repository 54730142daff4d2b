import pytest
import torch

from reid.matchers import _all_pairs
from reid.matchers._all_pairs import best_positions, score_in_blocks
from reid.types import ImageState


def states(num: int) -> ImageState:
    return ImageState({"x": torch.arange(num, dtype=torch.float32)})


@pytest.mark.parametrize("limit", [1, 64, 1000, 10**9])
def test_blocks_cover_every_pair_once_within_the_limit(monkeypatch, limit):
    monkeypatch.setattr(_all_pairs, "TEMPORARY_BYTES", limit)
    sizes = []

    def block(query: ImageState, gallery: ImageState) -> torch.Tensor:
        sizes.append(len(query) * len(gallery) * 8)
        return query["x"][:, None] * 100 + gallery["x"]

    found = score_in_blocks(block, states(5), states(7), bytes_per_pair=8, bytes_per_image=16)
    assert found.tolist() == [[100.0 * q + g for g in range(7)] for q in range(5)]
    assert max(sizes) <= max(limit, 8)
    assert (len(sizes) == 1) == (limit >= 1000)


def test_cells_of_a_map_that_does_not_divide_the_image():
    found = best_positions(torch.eye(6), 3, 2, (10, 5))  # cells of 2.5 x 10 / 3 pixels
    assert found.query_N2[0].tolist() == pytest.approx([1.25, 5 / 3])
    assert found.query_N2[5].tolist() == pytest.approx([3.75, 25 / 3])
    assert torch.equal(found.query_N2, found.gallery_N2)
    assert found.confidence_N.tolist() == [1.0] * 6
