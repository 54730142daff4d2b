"""Transformer-Cat: the tokens of both images in one sequence, read by an encoder, for every pair anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from reid.matchers._all_pairs import pair_in_chunks
from reid.matchers._base import Matcher, MatcherInfo, PairOutputs, ParameterGroup
from reid.matchers._tokens import PairHead, TokenConfig, TokenNeck, added_embedding, encoder, pairs_at_once, read_tokens
from reid.types import FeatureSpec, ImageState


class Config(TokenConfig):
    """Widths are the published ones, smaller than TransMatcher's since every pair goes through all layers."""

    name: Literal["transformer_cat"] = "transformer_cat"
    dim: PositiveInt = Field(128, description="channels after the neck")
    num_layers: PositiveInt = Field(2, description="of the encoder")
    feedforward: PositiveInt = Field(512, description="hidden units of the layers")


class TransformerCat(Matcher):
    """Join the tokens of query and gallery image, mark whose they are, encode, pool, read a logit.

    A pair costs N (4 T D^2 + 2 T^2 D + 2 T D F) multiplications with T = 2 S tokens, F hidden units and N layers:
    0.23 G at S = 192 with the defaults. State: ``tokens`` [N, S, D], the neck's output. The score is not symmetric.

    Args:
        config: see :class:`Config`.
        features: what the backbone gives.

    Source: Liao and Shao, TransMatcher, NeurIPS 2021 (query-gallery concatenation in ViT), whose code is not released:
    the two image-type embeddings, the mean over tokens and a single head are our reading.
    """

    def __init__(self, config: Config, features: FeatureSpec) -> None:
        super().__init__()
        self.config = config
        self.info = MatcherInfo("top_k", symmetric=False, strides=(config.stride,))
        self.neck = TokenNeck(config, features)
        self.image_type = added_embedding(2, config.dim)
        self.encoder = encoder(config)
        self.head = PairHead(config.dim)

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:  # noqa: ARG002
        """See :meth:`Matcher.encode`."""
        return ImageState({"tokens": self.neck(maps)})

    def pair(self, query: ImageState, gallery: ImageState) -> PairOutputs:
        """See :meth:`Matcher.pair`."""
        query_NSD, gallery_NSD = (
            read_tokens(state, "tokens", self.neck, self.config.dim) for state in (query, gallery)
        )
        size = pairs_at_once(self.config, 2 * self.neck.num_tokens)
        return PairOutputs(pair_in_chunks(self._logits, query_NSD, gallery_NSD, size=size))

    def parameter_groups(self) -> list[ParameterGroup]:
        """The neck computes the state; all else compares."""
        decoder = (self.image_type, *self.encoder.parameters(), *self.head.parameters())
        return [ParameterGroup("encoder", tuple(self.neck.parameters())), ParameterGroup("decoder", decoder)]

    def _logits(self, query_NSD: Tensor, gallery_NSD: Tensor) -> Tensor:
        token_NTD = torch.cat((query_NSD + self.image_type[0], gallery_NSD + self.image_type[1]), 1)
        return self.head(self.encoder(token_NTD))  # type: ignore[no-any-return]


COMPONENT = TransformerCat
