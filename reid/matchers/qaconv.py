"""QAConv: the best local cosine matches of two feature maps, weighted by position and added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from reid.kernels.simmax import Maxima, aligned_maxima, similarity_maps, similarity_maxima
from reid.matchers._all_pairs import AllPairsMatcher, best_positions, pair_in_chunks
from reid.matchers._base import PAIRS_PER_CHUNK, MatcherConfig, MatcherInfo, PairOutputs, ParameterGroup
from reid.matchers._inputs import map_shape, read_field, read_map
from reid.nn.norm import affine
from reid.types import Correspondences, FeatureSpec, ImageState


class Config(MatcherConfig):
    """Defaults are those of QAConv-GS."""

    name: Literal["qaconv"] = "qaconv"
    stride: PositiveInt = Field(16, description="of the feature map: ResNet's layer3")
    dim: PositiveInt = Field(128, description="channels after the neck")
    neck_statistics: Literal["fixed", "batch"] = Field(
        "fixed",
        description="of the neck's batch norm while training; 'fixed' as released (mean 0, variance 1, hence a learned "
        "scale and shift per channel), 'batch' for training from scratch",
    )


class QAConv(AllPairsMatcher):
    """Use every local feature of one image as a 1 x 1 kernel on the other: maxima of the cosine map, both directions.

    State: ``features`` [N, S, D], of unit length at each position.

    Args:
        config: see :class:`Config`.
        features: what the backbone gives. S is fixed by it: scores of maps of another size are refused.

    Source: Liao and Shao, Interpretable and Generalizable Person Re-Identification with Query-Adaptive Convolution and
    Temporal Lifting, ECCV 2020; Graph Sampling, CVPR 2022 (QAConv-GS) and its released code.
    """

    def __init__(self, config: Config, features: FeatureSpec) -> None:
        super().__init__()
        self.config = config
        self.image_size = features.image_size
        self.map_shape = map_shape(features, config.stride, config.name)
        channels, height, width = self.map_shape
        num_positions = height * width
        self.field_shape = (num_positions, config.dim)
        self.info = MatcherInfo(
            "all_pairs", symmetric=True, strides=(config.stride,), has_correspondences=True, takes_maxima=True
        )
        self.neck_conv = nn.Conv2d(channels, config.dim, 3, padding=1, bias=False)
        self.neck_bn = nn.BatchNorm2d(config.dim)
        self.bn = nn.BatchNorm1d(1)
        self.fc = nn.Linear(num_positions, 1)
        self.logit_bn = nn.BatchNorm1d(1)
        nn.init.constant_(self.fc.weight, 1 / num_positions)
        self.train()

    def train(self, mode: bool = True) -> QAConv:
        """As for any module, but the neck's statistics stay as they are unless the config says otherwise."""
        super().train(mode)
        self.neck_bn.train(mode and self.config.neck_statistics == "batch")
        return self

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:  # noqa: ARG002
        """See :meth:`Matcher.encode`."""
        map_BCHW = read_map(maps, self.config.stride, self.map_shape, self.config.name)
        neck_BDHW = self.neck_bn(self.neck_conv(map_BCHW))
        features_BSD = functional.normalize(neck_BDHW, dim=1).flatten(2).transpose(1, 2)
        return ImageState({"features": features_BSD})

    def pair(self, query: ImageState, gallery: ImageState) -> PairOutputs:
        """See :meth:`Matcher.pair`."""
        size = max(1, len(query)) if self.training else PAIRS_PER_CHUNK

        def score_pairs(query_NSD: Tensor, gallery_NSD: Tensor) -> Tensor:
            return self._head(aligned_maxima(query_NSD, gallery_NSD))

        return PairOutputs(pair_in_chunks(score_pairs, self._features(query), self._features(gallery), size=size))

    def correspond(self, query: ImageState, gallery: ImageState) -> list[Correspondences]:
        """For each query position the gallery position with the largest cosine, which is the confidence."""
        map_NSS = similarity_maps(self._features(query), self._features(gallery))
        return [best_positions(map_SS, *self.map_shape[1:], self.image_size) for map_SS in map_NSS]

    def parameter_groups(self) -> list[ParameterGroup]:
        """Neck (released: ``model``), matching head (released: ``criterion``)."""
        encoder = (*self.neck_conv.parameters(), *self.neck_bn.parameters())
        decoder = (*self.bn.parameters(), *self.fc.parameters(), *self.logit_bn.parameters())
        return [ParameterGroup("encoder", encoder), ParameterGroup("decoder", decoder)]

    def score_block(self, query: ImageState, gallery: ImageState) -> Tensor:
        """See :meth:`AllPairsMatcher.score_block`."""
        logit_N = self._head(similarity_maxima(self._features(query), self._features(gallery)))
        return logit_N.view(len(query), len(gallery))

    def _head(self, maxima: Maxima) -> Tensor:
        """Logits, [N], from the maxima of pairs in any form."""
        rows_XS = maxima.both.reshape(-1, self.fc.in_features)
        with torch.autocast(rows_XS.device.type, enabled=False):  # the head's sums do not bear half precision
            if not self.training and not torch.is_grad_enabled():  # the batch norm's one channel passes through the sum
                scale, shift = affine(self.bn)
                weight_S = self.fc.weight[0]
                logit_X = rows_XS @ (weight_S * scale) + (weight_S.sum() * shift + self.fc.bias)
            else:
                logit_X = self.fc(self.bn(rows_XS.unsqueeze(1)).squeeze(1))
            return self.logit_bn(logit_X.view(2, -1).sum(0).unsqueeze(1)).squeeze(1)  # type: ignore[no-any-return]

    def _features(self, state: ImageState) -> Tensor:
        return read_field(state, "features", self.field_shape, self.config.name)


COMPONENT = QAConv
