import colorsys

import pytest
import torch

from reid.matchers.color_histogram import ColorHistogram, Config, _hsv
from reid.types import FeatureSpec


def build(height=12, **options):
    return ColorHistogram(Config(**options), FeatureSpec((height, 6), {}))


def solid(color, height=12):
    return torch.tensor(color).reshape(1, 3, 1, 1).expand(1, 3, height, 6)


def test_hsv_is_the_standard_librarys():
    image_BCHW = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    image_BCHW[0, :, 0, 0] = 0.25  # grey
    hue, saturation, value = _hsv(image_BCHW)
    for b, row, column in [(0, 0, 0), (0, 1, 2), (1, 4, 3), (1, 2, 1)]:
        wanted = colorsys.rgb_to_hsv(*image_BCHW[b, :, row, column].tolist())
        found = (hue[b, row, column], saturation[b, row, column], value[b, row, column])
        assert torch.tensor(found).tolist() == pytest.approx(wanted, abs=1e-6)


def test_same_image_scores_one_and_disjoint_colours_zero():
    matcher = build()
    red, dark_blue = (matcher.encode(solid(color), {}) for color in [(1.0, 0.0, 0.0), (0.0, 0.0, 0.3)])
    assert matcher.score(red, red).item() == pytest.approx(1)
    assert matcher.score(red, dark_blue).item() == pytest.approx(0)


def test_half_of_the_stripes_alike_scores_a_half():
    matcher = build(num_stripes=2)
    red = solid((1.0, 0.0, 0.0)).clone()
    mixed = red.clone()
    mixed[:, :, 6:] = torch.tensor((0.0, 0.0, 0.3)).reshape(1, 3, 1, 1)
    assert matcher.score(matcher.encode(red, {}), matcher.encode(mixed, {})).item() == pytest.approx(0.5)


def test_embedding_has_the_declared_width():
    matcher = build(num_stripes=3, num_bins=4)
    state = matcher.encode(torch.rand(2, 3, 12, 6), {})
    assert state["embedding"].shape == (2, matcher.info.embedding_dim)
    assert matcher.parameter_groups() == []
