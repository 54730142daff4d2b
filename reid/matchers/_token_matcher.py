"""Shared ground of the matchers that let a few tokens of two images attend to each other: RRT and ETR."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid.errors import ConfigError, ShapeError
from reid.matchers._base import TEMPORARY_BYTES, Matcher, MatcherInfo, PairOutputs
from reid.matchers._inputs import read_field
from reid.matchers._local_tokens import LocalTokens, Tokens, TokensConfig
from reid.nn.dtype import at_least_float32
from reid.types import FeatureSpec, ImageState, StateField


class AttentionLayer(nn.Module):
    """One transformer layer, post-norm: ``z = norm(x + attention(x, y, y)); out = norm(z + W2 relu(W1 z))``.

    Args:
        dim: channels, D.
        num_heads: D is a multiple of it.
        feedforward: hidden units of the perceptron.

    Source: Vaswani et al., NIPS 2017. No dropout, as in RRT and ETR.
    """

    def __init__(self, dim: int, num_heads: int, feedforward: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj = nn.Linear(dim, 3 * dim)
        self.out_proj = nn.Linear(dim, dim)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, target_NTD: Tensor, source_NSD: Tensor, mask_NS: Tensor | None = None) -> Tensor:
        """Let each target token attend to the source tokens.

        Args:
            target_NTD: tokens to renew.
            source_NSD: tokens to look at; the same for self-attention.
            mask_NS: source tokens that may be looked at, bool, at least one of each row; None: all.

        Returns:
            the renewed target tokens, [N, T, D].
        """
        z_NTD = self.norm1(target_NTD + self._attend(target_NTD, source_NSD, mask_NS))
        out_NTD: Tensor = self.norm2(z_NTD + self.linear2(self.linear1(z_NTD).relu()))
        return out_NTD

    def _attend(self, target_NTD: Tensor, source_NSD: Tensor, mask_NS: Tensor | None) -> Tensor:
        dim = target_NTD.shape[2]
        weight, bias = self.in_proj.weight, self.in_proj.bias
        query = functional.linear(target_NTD, weight[:dim], bias[:dim])
        key, value = functional.linear(source_NSD, weight[dim:], bias[dim:]).chunk(2, dim=2)
        q_NHTd, k_NHSd, v_NHSd = (x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in (query, key, value))
        mask_N11S = None if mask_NS is None else mask_NS[:, None, None]
        found_NHTd = functional.scaled_dot_product_attention(q_NHTd, k_NHSd, v_NHSd, attn_mask=mask_N11S)
        out_NTD: Tensor = self.out_proj(found_NHTd.transpose(1, 2).flatten(2))
        return out_NTD


class TokenMatcher(Matcher):
    """A matcher of kind ``top_k`` whose pairs are sets of tokens that go through attention layers.

    State: ``tokens`` [N, T, D]; and where they apply ``mask`` [N, T], bool, and for the loss of the attention that
    chooses tokens ``attended`` [N, C] and ``reconstruction_error`` [N], not stored.

    Args:
        config: see :class:`TokensConfig`.
        features: what the backbone gives.
        dim: channels of a token, D.
        num_heads: of the layers.
        feedforward: hidden units of the layers.
        with_global: see :class:`LocalTokens`.
        with_scale: see :class:`LocalTokens`.

    Raises:
        ConfigError: the channels cannot be shared out among the heads, or the backbone has no map of a stride.
    """

    classifier: nn.Linear

    def __init__(
        self,
        config: TokensConfig,
        features: FeatureSpec,
        *,
        dim: int,
        num_heads: int,
        feedforward: int,
        with_global: bool = True,
        with_scale: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.tokens = LocalTokens(config, features, dim, with_global=with_global, with_scale=with_scale)
        if dim % num_heads:
            raise ConfigError(
                f"matcher {self.tokens.name}: wanted dim a multiple of num_heads, found {dim}, {num_heads}."
            )
        self.info = MatcherInfo("top_k", symmetric=False, strides=config.strides, attended_dim=self.tokens.attended_dim)
        num_tokens = 2 * self.tokens.shape[0] + 2
        self.pairs_per_chunk = max(1, TEMPORARY_BYTES // (4 * num_tokens * (feedforward + 6 * dim)))

    @abstractmethod
    def logits(self, query: Tokens, gallery: Tokens) -> Tensor:
        """Logits of aligned pairs, [N]."""

    def prepare(self, tokens: Tokens) -> Tensor:
        """What is kept of an image's tokens, [N, T, D]: themselves, or what else depends on one image alone."""
        return tokens.token_NTD

    def encode(self, image_BCHW: Tensor, maps: Mapping[int, Tensor]) -> ImageState:  # noqa: ARG002
        """See :meth:`Matcher.encode`."""
        found = self.tokens(maps)
        found["tokens"] = self.prepare(Tokens(found["tokens"], found.get("mask")))
        apart = {name: StateField(cached=False) for name in ("attended", "reconstruction_error") if name in found}
        return ImageState(found, apart)

    def pair(self, query: ImageState, gallery: ImageState) -> PairOutputs:
        """See :meth:`Matcher.pair`."""
        if len(query) != len(gallery):
            raise ShapeError(
                f"{self.tokens.name}: wanted as many query as gallery images, found {len(query)} and {len(gallery)}."
            )
        size = max(1, len(query)) if self.training else self.pairs_per_chunk
        chunks = [slice(start, start + size) for start in range(0, max(1, len(query)), size)]
        tokens_q, tokens_g = self._tokens(query), self._tokens(gallery)
        return PairOutputs(torch.cat([self.logits(tokens_q[chunk], tokens_g[chunk]) for chunk in chunks]))

    def classify(self, pooled_ND: Tensor) -> Tensor:
        """Logits, [N], in at least float32."""
        with torch.autocast(pooled_ND.device.type, enabled=False):
            logit_N1: Tensor = self.classifier(at_least_float32(pooled_ND))
        return logit_N1.squeeze(1)

    def draw(self) -> None:
        """Draw all matrices anew by Xavier's uniform rule, as published."""
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def _tokens(self, state: ImageState) -> Tokens:
        """In the weights' precision."""
        shape = self.tokens.shape
        token_NTD = read_field(state, "tokens", shape, self.tokens.name).to(self.classifier.weight.dtype)
        mask_NT = read_field(state, "mask", shape[:1], self.tokens.name) if self.tokens.padded else None
        return Tokens(token_NTD, mask_NT)
