import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
    rows, columns = (matching.pack(feature, side).values.view(torch.bfloat16) for side in ("rows", "columns"))
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
def test_packing_finds_what_is_not_finite(side):
    feature = torch.randn(6, 35, 40).bfloat16()
    feature[1, 34, 39] = torch.nan
    feature[3, 0, 0] = -torch.nan
    feature[4, 20, 20] = torch.inf
    feature[5, 20, 20] = -torch.inf
    for products in ("bfloat16", "int8"):
        found = matching.pack(feature, side, products).scale_N
        assert found.isnan().tolist() == [False, True, False, True, True, True]
    assert matching.pack(feature, side).scale_N[[0, 2]].tolist() == [1.0] * 2


def quantised(feature):
    """Whole numbers in -127..127, one scale an image, float64 both."""
    scale_N = feature.double().abs().amax((1, 2)) / 127
    divisor_N11 = scale_N.clamp_min(1e-300)[:, None, None]
    return (feature.double() / divisor_N11).float().double().round(), scale_N


@pytest.mark.parametrize("feature", [torch.randn(2, 70, 130).bfloat16(), torch.randn(3, 1, 1).bfloat16(), LEVEL])
def test_int8_packing_rounds_to_the_nearest(feature):
    num_images, num_positions, dim = feature.shape
    blocks, steps = -(-num_positions // 32), -(-dim // 64)
    rows, columns = (matching.pack(feature, side, "int8") for side in ("rows", "columns"))
    wanted = torch.zeros(num_images, blocks * 32, steps * 64)
    values, scale_N = quantised(feature)
    wanted[:, :num_positions, :dim] = values
    wanted[:, num_positions:] = wanted[:, num_positions - 1 : num_positions]
    found = rows.values.view(torch.int8).view(num_images, blocks, steps, 2, 16, 64).permute(0, 1, 3, 4, 2, 5)
    assert float((found.reshape(wanted.shape) - wanted).abs().max()) <= 1  # a tie may fall to either side
    assert float((found.reshape(wanted.shape) - wanted).abs().mean()) < 0.01
    by_columns = columns.values.view(torch.int8).view(num_images, blocks, steps, 2, 16, 16, 4)
    assert torch.equal(by_columns.permute(0, 1, 3, 5, 2, 4, 6).reshape(found.shape), found)
    torch.testing.assert_close(rows.scale_N.double(), scale_N, rtol=1e-6, atol=0)
    assert torch.equal(rows.scale_N, columns.scale_N)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 70), st.integers(1, 140), st.booleans(), st.integers(0, 9))
def test_int8_maxima_are_near_for_any_size(num_query, num_gallery, num_positions, dim, weighted, seed):
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(num_query, num_positions, dim, generator=generator).bfloat16()
    gallery = torch.randn(num_gallery, num_positions, dim, generator=generator).bfloat16()
    weight = torch.randn(num_positions, num_positions, generator=generator).half() if weighted else None
    map_QGST = torch.einsum("gsd,qtd->qgst", gallery.double(), query.double())
    map_QGST = map_QGST if weight is None else map_QGST * weight.double()
    found = matching.maxima(query, gallery, None if weight is None else weight.float(), "int8").double()
    # rounding errors of about 4 / 127 / sqrt(12) in both factors, dim times, at random; of many the largest
    tolerance = 0.08 * dim**0.5 * (1 if weight is None else float(weight.abs().max()))
    torch.testing.assert_close(found, torch.stack((map_QGST.amax(2), map_QGST.amax(3))), rtol=0, atol=tolerance)


def test_int8_images_of_zeros_and_of_nan():
    query, gallery = torch.randn(3, 33, 70).bfloat16(), torch.randn(2, 33, 70).bfloat16()
    query[0] = 0
    query[1, 2, 3] = torch.nan
    found = matching.maxima(query, gallery, None, "int8")
    assert found[:, 0].eq(0).all()
    assert found[:, 1].isnan().all()
    assert found[:, 2].isfinite().all()


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


@pytest.mark.parametrize("size", [(1, 12, 192, 512), (2, 45, 40, 300), (1, 3, 230, 700), (5, 1, 33, 600)], ids=str)
@pytest.mark.parametrize("products", ["bfloat16", "int8"])
def test_more_channels_positions_and_images_than_the_caches_hold(size, products):
    num_query, num_gallery, num_positions, dim = size
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(num_query, num_positions, dim, generator=generator).bfloat16()
    gallery = torch.randn(num_gallery, num_positions, dim, generator=generator).bfloat16()
    exact = torch.einsum("gsd,qtd->qgst", gallery.double(), query.double())
    found = matching.maxima(query, gallery, None, products).double()
    tolerance = 1e-4 if products == "bfloat16" else 0.08 * dim**0.5
    torch.testing.assert_close(found, torch.stack((exact.amax(2), exact.amax(3))), rtol=0, atol=tolerance)
    if products == "bfloat16":
        values, places = matching.maxima_and_positions(query, gallery, None)
        there = exact.gather(2, places[0].long()[:, :, None]).squeeze(2)
        torch.testing.assert_close(there, values[0].double(), rtol=0, atol=tolerance)


def test_no_images():
    some, none = torch.randn(2, 33, 8).bfloat16(), torch.randn(0, 33, 8).bfloat16()
    assert matching.maxima(none, some, None).shape == (2, 0, 2, 33)
    assert matching.maxima(some, none, None).shape == (2, 2, 0, 33)
