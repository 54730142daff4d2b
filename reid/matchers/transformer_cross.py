"""Transformer-Cross: a decoder in which the query image's tokens attend to the gallery image's, for every pair anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor

from reid.matchers._all_pairs import pair_in_chunks
from reid.matchers._base import Matcher, MatcherInfo, PairOutputs, ParameterGroup
from reid.matchers._tokens import Decoder, PairHead, TokenConfig, TokenNeck, encoder, pairs_at_once, read_tokens
from reid.types import FeatureSpec, ImageState


class Config(TokenConfig):
    """Widths are the published ones, smaller than TransMatcher's since every pair goes through all decoder layers."""

    name: Literal["transformer_cross"] = "transformer_cross"
    dim: PositiveInt = Field(128, description="channels after the neck")
    num_layers: PositiveInt = Field(2, description="of the encoder and of the decoder")
    feedforward: PositiveInt = Field(512, description="hidden units of the layers")
    symmetric: bool = Field(False, description="use the mean of both directions' logits, at twice the cost of a pair")


class TransformerCross(Matcher):
    """Encode the gallery image to a memory, let the query image's tokens attend to it in a decoder, pool, read a logit.

    State: ``memory`` [N, S, D], the encoder's output, and ``tokens`` [N, S, D], the neck's output after the decoder's
    first self-attention, which sees one image only. A pair costs N (8 S D^2 + 4 S^2 D + 2 S D F) - (4 S D^2 + 2 S^2 D)
    multiplications with F hidden units and N layers: 0.12 G at S = 192 with the defaults.

    Args:
        config: see :class:`Config`.
        features: what the backbone gives.

    Source: Liao and Shao, TransMatcher, NeurIPS 2021 (query-gallery cross-attention in the vanilla Transformer), whose
    code is not released: the mean over tokens, a single head and the option ``symmetric`` are our reading.
    """

    def __init__(self, config: Config, features: FeatureSpec) -> None:
        super().__init__()
        self.config = config
        self.info = MatcherInfo("top_k", config.symmetric, (config.stride,))
        self.neck = TokenNeck(config, features)
        self.encoder = encoder(config)
        self.decoder = Decoder(config)
        self.head = PairHead(config.dim)

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:  # noqa: ARG002
        """See :meth:`Matcher.encode`."""
        token_BSD = self.neck(maps)
        return ImageState({"memory": self.encoder(token_BSD), "tokens": self.decoder.begin(token_BSD)})

    def pair(self, query: ImageState, gallery: ImageState) -> PairOutputs:
        """See :meth:`Matcher.pair`."""
        logit_N = self._one_way(query, gallery)
        if self.config.symmetric:
            logit_N = (logit_N + self._one_way(gallery, query)) / 2
        return PairOutputs(logit_N)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Neck and encoder, as TransMatcher's; decoder and head."""
        states = (*self.neck.parameters(), *self.encoder.parameters())
        decoder = (*self.decoder.parameters(), *self.head.parameters())
        return [ParameterGroup("encoder", states), ParameterGroup("decoder", decoder)]

    def _one_way(self, query: ImageState, gallery: ImageState) -> Tensor:
        token_NSD = read_tokens(query, "tokens", self.neck, self.config.dim)
        memory_NSD = read_tokens(gallery, "memory", self.neck, self.config.dim)
        size = pairs_at_once(self.config, self.neck.num_tokens)
        return pair_in_chunks(self._logits, token_NSD, memory_NSD, size=size)

    def _logits(self, token_NSD: Tensor, memory_NSD: Tensor) -> Tensor:
        return self.head(self.decoder(token_NSD, memory_NSD))  # type: ignore[no-any-return]


COMPONENT = TransformerCross
