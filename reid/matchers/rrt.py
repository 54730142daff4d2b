"""RRT, the Reranking Transformer: all tokens of two images in one sequence that attends to itself."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from reid.matchers._base import ParameterGroup
from reid.matchers._local_tokens import Tokens, TokensConfig
from reid.matchers._token_matcher import AttentionLayer, TokenMatcher
from reid.types import FeatureSpec

LOCAL_QUERY, LOCAL_GALLERY, CLS, SEP, GLOBAL_QUERY, GLOBAL_GALLERY = range(6)
"""Segments of the sequence, in the published order of their embeddings."""


class Config(TokensConfig):
    """Defaults are the published ones of the Google Landmarks model."""

    name: Literal["rrt"] = "rrt"
    dim: PositiveInt = Field(128, description="channels of a token")
    num_heads: PositiveInt = Field(4, description="of each layer; dim is a multiple of it")
    num_layers: PositiveInt = Field(6, description="of attention over the joint sequence")
    feedforward: PositiveInt = Field(1024, description="hidden units of each layer")


class Rrt(TokenMatcher):
    """Send ``[CLS; global, locals of the query; SEP; global, locals of the gallery image]`` through a transformer.

    Each part of the sequence has a learned segment embedding, which is all that CLS and SEP consist of. A linear layer
    reads the logit from CLS; so the last layer renews no other token. score(a, b) and score(b, a) differ.
    State: see :class:`TokenMatcher`; tokens are stored without their segment, which depends on the side.

    Args:
        config: see :class:`Config`.
        features: what the backbone gives.

    Source: Tan, Yuan and Ordonez, Instance-level Image Retrieval using Reranking Transformers, ICCV 2021; written from
    its equations. Differs: images have one size, so scales are strides of the backbone's maps; see DELG in
    :class:`~reid.matchers._local_tokens.LocalTokens` for the tokens.
    """

    def __init__(self, config: Config, features: FeatureSpec) -> None:
        super().__init__(config, features, dim=config.dim, num_heads=config.num_heads, feedforward=config.feedforward)
        self.segment = nn.Embedding(6, config.dim)
        self.layers = nn.ModuleList(
            AttentionLayer(config.dim, config.num_heads, config.feedforward) for _ in range(config.num_layers)
        )
        self.classifier = nn.Linear(config.dim, 1)
        num_locals = self.tokens.num_locals
        segments = (
            [CLS, GLOBAL_QUERY] + num_locals * [LOCAL_QUERY] + [SEP, GLOBAL_GALLERY] + num_locals * [LOCAL_GALLERY]
        )
        self.register_buffer("segment_idx_T", torch.tensor(segments), persistent=False)
        self.draw()

    def logits(self, query: Tokens, gallery: Tokens) -> Tensor:
        """See :meth:`TokenMatcher.logits`."""
        nothing_N1D = torch.zeros_like(query.token_NTD[:, :1])
        sequence_NTD = torch.cat((nothing_N1D, query.token_NTD, nothing_N1D, gallery.token_NTD), dim=1)
        sequence_NTD = sequence_NTD + self.segment(self.segment_idx_T)
        mask_NT = _joint_mask(query.mask_NT, gallery.mask_NT)
        *layers, last = self.layers
        for layer in layers:
            sequence_NTD = layer(sequence_NTD, sequence_NTD, mask_NT)
        return self.classify(last(sequence_NTD[:, :1], sequence_NTD, mask_NT)[:, 0])

    def parameter_groups(self) -> list[ParameterGroup]:
        """What makes the tokens; the transformer over both images."""
        decoder = (*self.segment.parameters(), *self.layers.parameters(), *self.classifier.parameters())
        return [ParameterGroup("encoder", tuple(self.tokens.parameters())), ParameterGroup("decoder", decoder)]


def _joint_mask(query_NT: Tensor | None, gallery_NT: Tensor | None) -> Tensor | None:
    """Mask of the joint sequence, in which CLS and SEP are real."""
    if query_NT is None or gallery_NT is None:
        return None
    real_N1 = torch.ones_like(query_NT[:, :1])
    return torch.cat((real_N1, query_NT, real_N1, gallery_NT), dim=1)


COMPONENT = Rrt
