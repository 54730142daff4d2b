"""Shared ground of the matchers that let a few tokens of two images attend to each other: RRT and ETR."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reid.errors import ConfigError, ShapeError
from reid.matchers._base import Matcher, MatcherConfig, MatcherInfo, PairOutputs
from reid.matchers._inputs import map_shape, read_field, read_map
from reid.nn.pooling import GemPooling
from reid.types import FeatureSpec, ImageState, StateField

TEMPORARY_BYTES = 256 * 2**20
"""What the layers may need at a time while pairs are scored."""


class TokensConfig(MatcherConfig):
    """What the tokens of an image are."""

    name: str
    strides: tuple[PositiveInt, ...] = Field(
        (16,), min_length=1, description="of the feature maps whose cells are tokens; the global token is the deepest's"
    )
    num_locals: NonNegativeInt = Field(
        0,
        description="cells of an image that become tokens, chosen by a learned attention, which only the loss "
        "'attention' trains; 0: all, without attention; more than there are: all, and padding",
    )
    attention_hidden: PositiveInt = Field(512, description="hidden units of the attention that chooses, DELG's")
    row_embedding: bool = Field(
        False, description="add a learned vector to each local token by its row; the published models know no positions"
    )

    @model_validator(mode="after")
    def _strides_differ(self) -> Self:
        if len(set(self.strides)) != len(self.strides):
            raise ConfigError(f"matcher {self.name}: wanted strides that differ, found {list(self.strides)}.")
        return self


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of N images: the global one first, if there is one, then the local ones.

    Attributes:
        token_NTD: [N, T, D].
        mask_NT: which tokens are real, [N, T], bool; None: all. The others are padding.
    """

    token_NTD: Tensor
    mask_NT: Tensor | None

    def __getitem__(self, index: slice) -> Tokens:
        return Tokens(self.token_NTD[index], None if self.mask_NT is None else self.mask_NT[index])


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


class CellAttention(nn.Module):
    """How much each cell of a map tells about identity: ``softplus(conv(relu(conv(map))))``, 1x1 convolutions.

    Args:
        channels: of the map, C.
        dim: channels after the reduction whose inverse is learned with the attention.
        hidden: units between the two convolutions.

    Source: Cao, Araujo and Sim, Unifying Deep Local and Global Features for Image Search (DELG), ECCV 2020. The
    inverse is linear here, so that maps with negative values can be reconstructed too.
    """

    def __init__(self, channels: int, dim: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, hidden, 1)
        self.score = nn.Conv2d(hidden, 1, 1)
        self.expand = nn.Conv2d(dim, channels, 1)

    def forward(self, map_BCHW: Tensor, reduced_BDHW: Tensor) -> tuple[Tensor, Tensor]:
        """Attention of each cell, [B, S], and the cells reconstructed from their reduction, [B, S, C]."""
        score_BS = functional.softplus(_wide(self.score(self.hidden(map_BCHW).relu()))).flatten(1)
        return score_BS, _cells(_wide(self.expand(reduced_BDHW)))


class LocalTokens(nn.Module):
    """Feature maps to tokens, as DELG makes them.

    The cells of all maps are reduced to D channels, to unit length; the attention keeps the best ``num_locals``. A
    map's place in ``strides`` (scale), where there are several, and a cell's row may be added as learned vectors. The
    global token is the deepest map's generalised mean, projected, to unit length.

    Args:
        config: see :class:`TokensConfig`.
        features: what the backbone gives.
        dim: channels of a token, D.
        with_global: whether there is a global token; it is the first.
        with_scale: whether local tokens know their map; without effect for a single map.

    Attributes:
        shape: (T, D) of an image's tokens.
        padded: whether some tokens are padding, always the last.
        attended_dim: channels of the ``attended`` field; None where no attention chooses.
    """

    def __init__(
        self, config: TokensConfig, features: FeatureSpec, dim: int, *, with_global: bool, with_scale: bool
    ) -> None:
        super().__init__()
        self.name = config.name
        self.map_shapes = {stride: map_shape(features, stride, self.name) for stride in config.strides}
        channels = [shape[0] for shape in self.map_shapes.values()]
        self.num_cells = [height * width for _, height, width in self.map_shapes.values()]
        self.num_locals = config.num_locals or sum(self.num_cells)
        self.padded = self.num_locals > sum(self.num_cells)
        self.shape = (self.num_locals + with_global, dim)
        self.reduce = nn.ModuleList(nn.Conv2d(c, dim, 1) for c in channels)
        chosen = channels if self.num_locals < sum(self.num_cells) else []
        self.attention = nn.ModuleList(CellAttention(c, dim, config.attention_hidden) for c in chosen)
        self.attended_dim = sum(chosen) or None
        self.deepest = max(config.strides)
        self.pooling = GemPooling() if with_global else None
        self.project = nn.Linear(self.map_shapes[self.deepest][0], dim) if with_global else None
        self.scale_embedding = nn.Embedding(len(channels), dim) if with_scale and len(channels) > 1 else None
        rows = [width for _, height, width in self.map_shapes.values() for _ in range(height)]  # cells of each
        self.row_embedding = nn.Embedding(len(rows), dim) if config.row_embedding else None
        self.register_buffer("scale_idx_S", _repeated(self.num_cells), persistent=False)
        self.register_buffer("row_idx_S", _repeated(rows), persistent=False)

    def forward(self, maps: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """The fields of the images' states.

        Args:
            maps: stride -> feature map, [B, C, H, W].

        Returns:
            ``tokens`` [B, T, D], in at least float32; ``mask`` [B, T] where there is padding; where an attention
            chooses, ``attended`` [B, C of all maps] and ``reconstruction_error`` [B], for its loss.

        Raises:
            ShapeError: a map does not have the shape the matcher was built for.
        """
        read = [read_map(maps, stride, shape, self.name) for stride, shape in self.map_shapes.items()]
        cells_BSD = torch.cat([_cells(_wide(conv(m))) for conv, m in zip(self.reduce, read, strict=True)], dim=1)
        local_BLD = self._placed(functional.normalize(cells_BSD, dim=2))
        found: dict[str, Tensor] = {}
        if self.attended_dim is not None:
            score_BS, found = self._attend([m.detach() for m in read])
            kept_BL1 = score_BS.topk(self.num_locals, dim=1).indices[:, :, None]
            local_BLD = local_BLD.gather(1, kept_BL1.expand(-1, -1, local_BLD.shape[2]))
        local_BLD = functional.pad(local_BLD, (0, 0, 0, self.num_locals - local_BLD.shape[1]))
        if self.pooling is not None and self.project is not None:
            global_BD = functional.normalize(_wide(self.project(self.pooling(maps[self.deepest]))))
            local_BLD = torch.cat((global_BD[:, None], local_BLD), dim=1)
        if self.padded:
            num_real = self.shape[0] - self.num_locals + sum(self.num_cells)
            found["mask"] = (torch.arange(self.shape[0], device=local_BLD.device) < num_real).repeat(len(local_BLD), 1)
        return {"tokens": local_BLD, **found}

    def _placed(self, local_BSD: Tensor) -> Tensor:
        """Each cell plus its map's and its row's vector."""
        if self.scale_embedding is not None:
            local_BSD = local_BSD + self.scale_embedding(self.scale_idx_S)
        if self.row_embedding is not None:
            local_BSD = local_BSD + self.row_embedding(self.row_idx_S)
        return local_BSD

    def _attend(self, maps: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Attention of all cells, [B, S], and the fields its loss needs. No gradient reaches the backbone."""
        parts = [attention(m, conv(m)) for attention, conv, m in zip(self.attention, self.reduce, maps, strict=True)]
        score_BS = torch.cat([score for score, _ in parts], dim=1)
        share_BS = score_BS / score_BS.sum(1, keepdim=True).clamp(min=torch.finfo(score_BS.dtype).tiny)
        attended = []
        errors = []
        for share, (_, cells_BSC), map_BCHW in zip(share_BS.split(self.num_cells, dim=1), parts, maps, strict=True):
            attended.append((share[:, :, None] * cells_BSC).sum(1))
            errors.append((cells_BSC - _cells(_wide(map_BCHW))).square().mean((1, 2)))
        fields = {"attended": torch.cat(attended, dim=1), "reconstruction_error": torch.stack(errors).mean(0)}
        return score_BS, fields


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
            logit_N1: Tensor = self.classifier(_wide(pooled_ND))
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


def _repeated(counts: list[int]) -> Tensor:
    """0 as often as the first count says, then 1, and so on."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def _cells(map_BCHW: Tensor) -> Tensor:
    """[B, S, C], row by row."""
    return map_BCHW.flatten(2).transpose(1, 2)


def _wide(x: Tensor) -> Tensor:
    """In at least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
