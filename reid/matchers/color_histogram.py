"""Colour histograms of horizontal stripes: the yardstick that a matcher must clearly beat, without any training.

Source: Gray and Tao, Viewpoint Invariant Pedestrian Recognition with an Ensemble of Localized Features, ECCV 2008
(six stripes, hue, saturation and brightness); compared by the Bhattacharyya coefficient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from reid.matchers._base import Matcher, MatcherConfig, MatcherInfo, PairOutputs, ParameterGroup
from reid.types import FeatureSpec, ImageState, StateField


class Config(MatcherConfig):
    """The ``[matcher]`` table."""

    name: Literal["color_histogram"] = "color_histogram"
    num_stripes: PositiveInt = Field(6, description="horizontal stripes of equal height")
    num_bins: PositiveInt = Field(
        8, description="per channel; hue and saturation are counted jointly, brightness apart"
    )


class ColorHistogram(Matcher):
    """Compares clothes by colour, stripe by stripe. It has no parameters and needs no backbone.

    The score is the mean over stripes of the Bhattacharyya coefficients of the joint hue and saturation histogram
    and of the brightness histogram, in [0, 1].
    """

    def __init__(self, config: Config, features: FeatureSpec) -> None:
        super().__init__()
        self.config = config
        height = features.image_size[0]
        row_stripe = torch.arange(height) * config.num_stripes // height
        self.register_buffer("_row_stripe", row_stripe, persistent=False)
        dim = config.num_stripes * (config.num_bins**2 + config.num_bins)
        self.info = MatcherInfo(
            "embedding", symmetric=True, strides=(), embedding_dim=dim, cosine=True, reads_pixels=True
        )

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:  # noqa: ARG002
        """See :class:`Matcher`; the state's ``embedding`` is [N, D], the square roots of the histograms, unit norm."""
        hue, saturation, value = (channel.flatten(1) for channel in _hsv(image_BCHW))
        bins = self.config.num_bins
        color = _bin(hue, bins) * bins + _bin(saturation, bins)
        width = image_BCHW.shape[3]
        stripe_S = self.get_buffer("_row_stripe").repeat_interleave(width)
        parts = [
            _histograms(stripe_S * bins**2 + color, self.config.num_stripes * bins**2),
            _histograms(stripe_S * bins + _bin(value, bins), self.config.num_stripes * bins),
        ]
        embedding_ND = torch.cat(parts, dim=1).sqrt()
        embedding_ND = embedding_ND / embedding_ND.norm(dim=1, keepdim=True)
        return ImageState({"embedding": embedding_ND}, {"embedding": StateField(bears_halving=False)})

    def pair(self, query: ImageState, gallery: ImageState) -> PairOutputs:
        """See :class:`Matcher`."""
        return PairOutputs((query["embedding"] * gallery["embedding"]).sum(dim=1))

    def score(self, query: ImageState, gallery: ImageState) -> Tensor:
        """See :class:`Matcher`."""
        return query["embedding"] @ gallery["embedding"].T

    def parameter_groups(self) -> list[ParameterGroup]:
        """None: there is nothing to train."""
        return []


def _hsv(image_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue, saturation and value, each [B, H, W] in [0, 1]; hue is 0 where there is no colour."""
    red, green, blue = image_BCHW.unbind(dim=1)
    value, brightest = image_BCHW.max(dim=1)
    chroma = value - image_BCHW.amin(dim=1)
    safe = chroma.clamp_min(1e-12)
    sextants = torch.stack([((green - blue) / safe) % 6, (blue - red) / safe + 2, (red - green) / safe + 4])
    hue = sextants.gather(0, brightest[None])[0] / 6
    return torch.where(chroma > 0, hue, 0), chroma / value.clamp_min(1e-12), value


def _bin(values: Tensor, num_bins: int) -> Tensor:
    return (values * num_bins).long().clamp(0, num_bins - 1)


def _histograms(bin_NS: Tensor, num_bins: int) -> Tensor:
    counts_NK = torch.zeros(len(bin_NS), num_bins, device=bin_NS.device)
    return counts_NK.scatter_add_(1, bin_NS, torch.ones_like(bin_NS, dtype=counts_NK.dtype))


COMPONENT = ColorHistogram
