"""Global embedding: one vector per image, compared by cosine. The yardstick of the pairwise matchers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from reid.errors import ShapeError
from reid.matchers._base import Matcher, MatcherConfig, MatcherInfo, PairOutputs, ParameterGroup
from reid.matchers._inputs import map_shape, read_field, read_map
from reid.nn.dtype import at_least_float32
from reid.nn.pooling import AveragePooling, GemPooling
from reid.types import FeatureSpec, ImageState, StateField


class Config(MatcherConfig):
    """Defaults are the strong baseline's, on the stride of the pairwise matchers."""

    name: Literal["embedding"] = "embedding"
    stride: PositiveInt = Field(
        16, description="of the feature map: ResNet's layer3, as for the matchers compared with"
    )
    pooling: Literal["average", "gem"] = Field("average", description="mean, or generalised mean with a learned power")
    neck_dim: NonNegativeInt = Field(0, description="channels of a 3x3 convolution before pooling; 0: none")


class Embedding(Matcher):
    """Pool the feature map, normalise by a batch norm without shift (the BN neck), compare by cosine.

    State: ``embedding`` [N, D], of unit length; for losses also ``pooled`` [N, D], before the BN neck (metric losses),
    and ``normed`` [N, D], after it (identity losses).

    Args:
        config: see :class:`Config`.
        features: what the backbone gives.

    Source: Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, CVPR Workshops 2019.
    """

    def __init__(self, config: Config, features: FeatureSpec) -> None:
        super().__init__()
        self.config = config
        self.map_shape = map_shape(features, config.stride, config.name)
        channels = self.map_shape[0]
        self.dim = config.neck_dim or channels
        self.info = MatcherInfo(
            "embedding", symmetric=True, strides=(config.stride,), embedding_dim=self.dim, cosine=True
        )
        self.neck_conv = nn.Conv2d(channels, self.dim, 3, padding=1) if config.neck_dim else nn.Identity()
        self.pooling = AveragePooling() if config.pooling == "average" else GemPooling()
        self.bn = nn.BatchNorm1d(self.dim)
        self.bn.register_parameter("bias", None)  # a shift would move the cosine's origin

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:  # noqa: ARG002
        """See :meth:`Matcher.encode`."""
        map_BCHW = read_map(maps, self.config.stride, self.map_shape, self.config.name)
        pooled_BD = self.pooling(self.neck_conv(map_BCHW))
        normed_BD = self.bn(pooled_BD)
        embedding = StateField(bears_halving=False)  # a map takes hundreds of times as much
        fields = {"embedding": embedding, "pooled": StateField(cached=False), "normed": StateField(cached=False)}
        embedding_BD = functional.normalize(normed_BD)
        return ImageState({"embedding": embedding_BD, "pooled": pooled_BD, "normed": normed_BD}, fields)

    def pair(self, query: ImageState, gallery: ImageState) -> PairOutputs:
        """See :meth:`Matcher.pair`."""
        query_ND, gallery_ND = self._embedding(query), self._embedding(gallery)
        if len(query_ND) != len(gallery_ND):
            raise ShapeError(
                f"embedding: wanted aligned pairs, found {len(query_ND)} query and {len(gallery_ND)} gallery images."
            )
        return PairOutputs((query_ND * gallery_ND).sum(1))

    def score(self, query: ImageState, gallery: ImageState) -> Tensor:
        """Cosines, -1..1; see :meth:`Matcher.score`."""
        query_QD, gallery_GD = self._embedding(query), self._embedding(gallery)
        with torch.autocast(query_QD.device.type, enabled=False):
            return query_QD @ gallery_GD.T

    def parameter_groups(self) -> list[ParameterGroup]:
        """Everything computes the state."""
        return [ParameterGroup("encoder", tuple(self.parameters()))]

    def _embedding(self, state: ImageState) -> Tensor:
        """In at least float32."""
        embedding_ND = read_field(state, "embedding", (self.dim,), self.config.name)
        return at_least_float32(embedding_ND)


COMPONENT = Embedding
