"""The vanilla Transformer: learned queries read each image's memory; what they bring is compared by a dot product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from reid.matchers._base import MatcherInfo, ParameterGroup
from reid.matchers._dot_product import DotProductMatcher, ScoreNorm
from reid.matchers._tokens import Decoder, TokenConfig, TokenNeck, encoder
from reid.types import FeatureSpec, ImageState

QUERY_STD = 1e-3
"""Of the queries at the start. Layer norms blow larger ones up to unit variance, and then all images' vectors start
nearly alike: with the defaults the mean of their dot products is 200 times the spread, with this 80."""


class Config(TokenConfig):
    """Widths are the published ones."""

    name: Literal["transformer"] = "transformer"
    num_queries: PositiveInt = Field(1, description="learned inputs of the decoder; their outputs are joined")


class Transformer(DotProductMatcher):
    """Encode the neck's tokens, let learned queries attend to them in a decoder, compare the decoder's outputs.

    There is no attention between the images. The score of two images is the batch norm of the dot product of their
    vectors; its scale stays positive. State: ``embedding`` [N, ``num_queries`` * D], not normalised.

    Args:
        config: see :class:`Config`.
        features: what the backbone gives.

    Source: Vaswani et al., Attention Is All You Need, NIPS 2017, as a baseline of Liao and Shao, TransMatcher, NeurIPS
    2021 (table of Transformers), whose code is not released: one query, its start and a single head are our reading.
    """

    def __init__(self, config: Config, features: FeatureSpec) -> None:
        super().__init__()
        self.config = config
        self.name, self.dim = config.name, config.num_queries * config.dim
        self.info = MatcherInfo("embedding", symmetric=True, strides=(config.stride,), embedding_dim=self.dim)
        self.neck = TokenNeck(config, features)
        self.encoder = encoder(config)
        self.queries = nn.Parameter(torch.randn(config.num_queries, config.dim) * QUERY_STD)
        self.decoder = Decoder(config)
        self.score_norm = ScoreNorm()

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:  # noqa: ARG002
        """See :meth:`Matcher.encode`."""
        memory_BSD = self.encoder(self.neck(maps))
        begun_TD = self.decoder.begin(self.queries[None])[0]  # the same for all images
        read_BTD: Tensor = self.decoder(begun_TD.expand(len(memory_BSD), -1, -1), memory_BSD)
        return self._state(read_BTD.flatten(1))

    def parameter_groups(self) -> list[ParameterGroup]:
        """All but the batch norm of scores computes the state."""
        parts = (self.neck, self.encoder, self.decoder)
        states = (*(parameter for part in parts for parameter in part.parameters()), self.queries)
        return [ParameterGroup("encoder", states), ParameterGroup("decoder", tuple(self.score_norm.parameters()))]


COMPONENT = Transformer
