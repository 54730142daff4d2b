"""ETR, the Efficient Transformer for Re-ranking: self-attention within, cross-attention between two images' tokens."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from reid.errors import ConfigError
from reid.matchers._base import ParameterGroup
from reid.matchers._local_tokens import Tokens, TokensConfig
from reid.matchers._token_matcher import AttentionLayer, TokenMatcher
from reid.types import FeatureSpec


class Published(NamedTuple):
    """Sizes of a published variant."""

    block: tuple[Literal["self", "cross"], ...]
    dim: int
    feedforward: int
    num_blocks: int


PUBLISHED = {"d": Published(("self", "cross"), 128, 1024, 3), "s": Published(("cross",), 256, 2048, 2)}


class Config(TokensConfig):
    """Defaults are those of the paper's variant."""

    name: Literal["etr"] = "etr"
    variant: Literal["d", "s"] = Field(
        "d",
        description="'d' (for DELG): a global and local tokens, blocks of a self- and a cross-attention layer; "
        "'s' (for SuperPoint): local tokens only, cross-attention layers only",
    )
    dim: PositiveInt | None = Field(None, description="channels of a token; None: 128 (d), 256 (s)")
    num_heads: PositiveInt = Field(4, description="of each layer; dim is a multiple of it")
    num_blocks: PositiveInt | None = Field(None, description="None: 3 (d), 2 (s)")
    feedforward: PositiveInt | None = Field(None, description="hidden units of each layer; None: 1024 (d), 2048 (s)")
    released: bool = Field(
        False, description="compute what the released code of variant d does instead of what the paper says"
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.released and self.variant != "d":
            raise ConfigError("matcher etr: released = true is known for variant 'd' only. Remove one of them.")
        return self


class Etr(TokenMatcher):
    """Renew the tokens of both images, each from its own (self) or from the other image's (cross); compare their means.

    Layers are shared by the two images, both of which read the tokens from before the layer. Means are over real
    tokens; ``[mean of the query; mean of the gallery image]`` goes through one linear layer, so score(a, b) and
    score(b, a) differ. In variant d tokens have a segment embedding, global or local, the same on both sides.
    State: see :class:`TokenMatcher`; in variant d the tokens are stored as the first self-attention layer leaves them.

    With ``released`` every layer reads the initial tokens, as in the released code, so that only the last, a
    cross-attention layer, reaches the logit: it is the only one built, the others would never have a gradient. Then
    also the mask of the reading image is laid on the tokens of the image read, and means include padding.

    Args:
        config: see :class:`Config`.
        features: what the backbone gives.

    Source: ETR: An Efficient Transformer for Re-ranking in Visual Place Recognition, WACV 2023, eqs. 1-5; written from
    the equations. Differs: images have one size, so scales are strides of the backbone's maps; see DELG in
    :class:`~reid.matchers._local_tokens.LocalTokens` for the tokens.
    """

    def __init__(self, config: Config, features: FeatureSpec) -> None:
        published = PUBLISHED[config.variant]
        dim, feedforward = config.dim or published.dim, config.feedforward or published.feedforward
        has_segments = config.variant == "d"
        super().__init__(
            config,
            features,
            dim=dim,
            num_heads=config.num_heads,
            feedforward=feedforward,
            with_global=has_segments,
            with_scale=has_segments,
        )
        self.released = config.released
        kinds = published.block * (config.num_blocks or published.num_blocks)
        self.kinds = kinds[-1:] if config.released else kinds
        self.num_cached = int(self.kinds[0] == "self")  # layers whose output depends on one image alone
        self.segment = nn.Embedding(2, dim) if has_segments else None
        segments = (torch.arange(self.tokens.shape[0]) > 0).long()  # the first token is the global one
        self.register_buffer("segment_idx_T", segments, persistent=False)
        self.layers = nn.ModuleList(AttentionLayer(dim, config.num_heads, feedforward) for _ in self.kinds)
        self.classifier = nn.Linear(2 * dim, 1)
        self.draw()

    def prepare(self, tokens: Tokens) -> Tensor:
        """See :meth:`TokenMatcher.prepare`."""
        token_NTD, mask_NT = tokens.token_NTD, tokens.mask_NT
        if self.segment is not None:
            token_NTD = token_NTD + self.segment(self.segment_idx_T)
        for layer in self.layers[: self.num_cached]:
            token_NTD = layer(token_NTD, token_NTD, mask_NT)
        return token_NTD

    def logits(self, query: Tokens, gallery: Tokens) -> Tensor:
        """See :meth:`TokenMatcher.logits`."""
        num_pairs = len(query.token_NTD)
        both_XTD = torch.cat((query.token_NTD, gallery.token_NTD))  # X = 2N: rolling by N swaps the sides
        mask_XT = None
        if query.mask_NT is not None and gallery.mask_NT is not None:
            mask_XT = torch.cat((query.mask_NT, gallery.mask_NT))
        for kind, layer in list(zip(self.kinds, self.layers, strict=True))[self.num_cached :]:
            if kind == "self":
                both_XTD = layer(both_XTD, both_XTD, mask_XT)
            else:
                other_XT = mask_XT if self.released or mask_XT is None else mask_XT.roll(num_pairs, 0)
                both_XTD = layer(both_XTD, both_XTD.roll(num_pairs, 0), other_XT)
        mean_XD = masked_mean(both_XTD, None if self.released else mask_XT)
        return self.classify(torch.cat((mean_XD[:num_pairs], mean_XD[num_pairs:]), dim=1))

    def parameter_groups(self) -> list[ParameterGroup]:
        """What makes the stored tokens; the layers between two images."""
        segment = () if self.segment is None else tuple(self.segment.parameters())
        own, between = self.layers[: self.num_cached], self.layers[self.num_cached :]
        encoder = (*self.tokens.parameters(), *segment, *own.parameters())
        decoder = (*between.parameters(), *self.classifier.parameters())
        return [ParameterGroup("encoder", encoder), ParameterGroup("decoder", decoder)]


def masked_mean(token_NTD: Tensor, mask_NT: Tensor | None) -> Tensor:
    """Mean over the real tokens, [N, D]; None: all are."""
    if mask_NT is None:
        return token_NTD.mean(1)
    return token_NTD.masked_fill(~mask_NT[:, :, None], 0).sum(1) / mask_NT.sum(1, keepdim=True)


COMPONENT = Etr
