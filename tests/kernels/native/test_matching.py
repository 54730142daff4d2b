import pytest
import torch

from reid.kernels.native import amx, matching

pytestmark = pytest.mark.skipif(amx().library is None, reason=amx().reason)


def test_aligned_tensors_start_on_a_page():
    for dtype in (torch.bfloat16, torch.float32):
        tensors = [matching.aligned(size, dtype) for size in (1, 100, 5000)]
        assert [len(tensor) for tensor in tensors] == [1, 100, 5000]
        assert all(tensor.data_ptr() % 4096 == 0 for tensor in tensors)


LEVEL = torch.randn(3, 2, 33, 8).bfloat16()[:, 1]
TRANSPOSED = torch.randn(2, 5, 40).bfloat16().transpose(1, 2)


@pytest.mark.parametrize(
    "feature",
    [*(torch.randn(size).bfloat16() for size in ((2, 32, 32), (1, 70, 40), (3, 1, 1))), LEVEL, TRANSPOSED],
    ids=lambda feature: str(tuple(feature.shape)),
)
def test_packing_puts_every_value_in_its_place(feature):
    num_images, num_positions, dim = feature.shape
    rows, columns = matching.pack(feature, "rows").values, matching.pack(feature, "columns").values
    blocks, steps = -(-num_positions // 32), -(-dim // 32)
    rows = rows.view(num_images, blocks, steps, 2, 16, 32)
    columns = columns.view(num_images, blocks, steps, 2, 16, 16, 2)
    for position in range(blocks * 32):
        block, half, place = position // 32, position // 16 % 2, position % 16
        for channel in range(steps * 32):
            step, inner = divmod(channel, 32)
            source = feature[:, min(position, num_positions - 1)]
            wanted = source[:, channel] if channel < dim else torch.zeros(num_images, dtype=feature.dtype)
            assert torch.equal(rows[:, block, step, half, place, inner], wanted)
            assert torch.equal(columns[:, block, step, half, inner // 2, place, inner % 2], wanted)


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_packing_finds_nan_and_nothing_else(side):
    feature = torch.randn(6, 35, 40).bfloat16()
    feature[1, 34, 39] = torch.nan
    feature[3, 0, 0] = -torch.nan
    feature[4, 20, 20] = torch.inf
    feature[5, 20, 20] = -torch.inf
    assert matching.pack(feature, side).nan_N.tolist() == [False, True, False, True, False, False]


def test_places_are_those_of_the_first_maxima():
    query, gallery = torch.ones(2, 35, 4).bfloat16(), torch.ones(3, 35, 4).bfloat16()
    query[0, 33] = 2.0
    gallery[1, 34] = 3.0
    values, places = matching.maxima_and_positions(query, gallery, None)
    assert torch.equal(values, matching.maxima(query, gallery, None))
    over_gallery = torch.zeros(2, 3, 35, dtype=torch.int32)
    over_gallery[:, 1] = 34
    over_query = torch.zeros(2, 3, 35, dtype=torch.int32)
    over_query[0] = 33
    assert torch.equal(places, torch.stack((over_gallery, over_query)))
    assert values[0, 0, 1, 33] == 24.0
