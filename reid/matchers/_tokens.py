"""Shared ground of the Transformer baselines: feature maps to tokens, layers of attention, what scores a pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from reid.matchers._base import PAIRS_PER_CHUNK, TEMPORARY_BYTES, MatcherConfig
from reid.matchers._inputs import map_shape, read_field, read_map
from reid.nn.dtype import at_least_float32
from reid.types import FeatureSpec, ImageState

EMBEDDING_STD = 0.02  # of learned embeddings that are added to tokens, at the start; ViT's


class TokenConfig(MatcherConfig):
    """What all of them can be told. The widths are those published for the ones that compare two vectors."""

    name: str
    stride: PositiveInt = Field(16, description="of the feature map: ResNet's layer3")
    dim: PositiveInt = Field(512, description="channels after the neck")
    num_layers: PositiveInt = Field(3, description="of the encoder, and of the decoder where there is one")
    feedforward: PositiveInt = Field(2048, description="hidden units of the layers")
    num_heads: PositiveInt = Field(1, description="of every attention; TransMatcher's encoder has one")
    norm: Literal["post", "pre"] = Field(
        "post",
        description="layer norms after every sum, as in TransMatcher's encoder, or before every block and once at the "
        "end, as in ViT",
    )
    position_embedding: bool = Field(False, description="add a learned vector per position; TransMatcher has none")

    @model_validator(mode="after")
    def _heads_share_channels(self) -> Self:
        if self.dim % self.num_heads:
            raise ValueError(f"wanted num_heads that divides dim {self.dim}, found {self.num_heads}")
        return self


class TokenNeck(nn.Module):
    """A 3 x 3 convolution, whose output at each position is a token; optionally a learned vector per position.

    Args:
        config: its ``name`` stands in error messages.
        features: what the backbone gives. S = ``num_tokens`` is fixed by it.
    """

    def __init__(self, config: TokenConfig, features: FeatureSpec) -> None:
        super().__init__()
        self.stride, self.name = config.stride, config.name
        self.map_shape = map_shape(features, config.stride, config.name)
        channels, height, width = self.map_shape
        self.num_tokens = height * width
        self.conv = nn.Conv2d(channels, config.dim, 3, padding=1)
        self.position = added_embedding(self.num_tokens, config.dim) if config.position_embedding else None

    def forward(self, maps: Mapping[int, Tensor]) -> Tensor:
        """Tokens, [B, S, D], row by row, of the map of the configured stride.

        Raises:
            ShapeError: it is missing or of another shape.
        """
        map_BCHW = read_map(maps, self.stride, self.map_shape, self.name)
        token_BSD: Tensor = self.conv(map_BCHW).flatten(2).transpose(1, 2)
        return token_BSD if self.position is None else token_BSD + self.position


def added_embedding(num: int, dim: int) -> nn.Parameter:
    """Learned vectors to be added to tokens, [num, dim]."""
    return nn.Parameter(torch.randn(num, dim) * EMBEDDING_STD)


def encoder(config: TokenConfig) -> nn.Sequential:
    """Layers of self-attention and perceptron, [B, S, D] to [B, S, D]; no dropout.

    Source: Vaswani et al., NIPS 2017 (``post``); Dosovitskiy et al., ICLR 2021 (``pre``, but with ReLU).
    """
    layers = (
        nn.TransformerEncoderLayer(
            config.dim,
            config.num_heads,
            config.feedforward,
            dropout=0.0,
            batch_first=True,
            norm_first=config.norm == "pre",
        )
        for _ in range(config.num_layers)
    )
    return nn.Sequential(*layers, _last_norm(config))


def _last_norm(config: TokenConfig) -> nn.Module:
    return nn.LayerNorm(config.dim) if config.norm == "pre" else nn.Identity()


class DecoderLayer(nn.Module):
    """Self-attention, attention to a memory, perceptron: ``nn.TransformerDecoderLayer`` in two steps."""

    def __init__(self, config: TokenConfig) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        self.self_attn = nn.MultiheadAttention(config.dim, config.num_heads, batch_first=True)
        self.cross_attn = nn.MultiheadAttention(config.dim, config.num_heads, batch_first=True)
        self.linear1 = nn.Linear(config.dim, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, config.dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(config.dim) for _ in range(3))

    def attend_to_itself(self, token_BTD: Tensor) -> Tensor:
        """The first block, [B, T, D]; it sees no memory."""
        return self._add(token_BTD, lambda x: self.self_attn(x, x, x, need_weights=False)[0], self.norm1)

    def attend_to_memory(self, token_BTD: Tensor, memory_BSD: Tensor) -> Tensor:
        """The other two, [B, T, D]."""
        token_BTD = self._add(
            token_BTD, lambda x: self.cross_attn(x, memory_BSD, memory_BSD, need_weights=False)[0], self.norm2
        )
        return self._add(token_BTD, lambda x: self.linear2(self.linear1(x).relu()), self.norm3)

    def _add(self, token_BTD: Tensor, block: Callable[[Tensor], Tensor], norm: nn.LayerNorm) -> Tensor:
        if self.pre:
            return token_BTD + block(norm(token_BTD))
        return norm(token_BTD + block(token_BTD))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Decoder layers one after the other, of which the first self-attention is apart: it depends on the tokens only.

    Source: Vaswani et al., NIPS 2017.
    """

    def __init__(self, config: TokenConfig) -> None:
        super().__init__()
        self.first = DecoderLayer(config)
        self.others = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers - 1))
        self.norm = _last_norm(config)

    def begin(self, token_BTD: Tensor) -> Tensor:
        """Tokens, [B, T, D], through the first self-attention: what :meth:`forward` wants."""
        return self.first.attend_to_itself(token_BTD)

    def forward(self, begun_BTD: Tensor, memory_BSD: Tensor) -> Tensor:
        """The rest of the way, [B, T, D]."""
        token_BTD = self.first.attend_to_memory(begun_BTD, memory_BSD)
        for layer in self.others:
            if isinstance(layer, DecoderLayer):
                token_BTD = layer.attend_to_memory(layer.attend_to_itself(token_BTD), memory_BSD)
        return self.norm(token_BTD)  # type: ignore[no-any-return]


class PairHead(nn.Module):
    """Tokens of N pairs to logits: mean over tokens, linear layer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 1)

    def forward(self, token_NTD: Tensor) -> Tensor:
        """Logits, [N], in the dtype of the weights, under autocast too."""
        with torch.autocast(token_NTD.device.type, enabled=False):
            pooled_ND = token_NTD.to(self.linear.weight.dtype).mean(1)
            return self.linear(pooled_ND).squeeze(1)  # type: ignore[no-any-return]


def read_tokens(state: ImageState, name: str, neck: TokenNeck, dim: int) -> Tensor:
    """A state's tokens, [N, S, D], in at least float32.

    Raises:
        ShapeError: the field is missing or has another shape.
    """
    token_NSD = read_field(state, name, (neck.num_tokens, dim), neck.name)
    return at_least_float32(token_NSD)


def pairs_at_once(config: TokenConfig, num_tokens: int) -> int:
    """How many pairs of ``num_tokens`` tokens may go through a layer together within the temporaries' limit."""
    channels = config.feedforward + 8 * config.dim + config.num_heads * num_tokens  # a layer's, of each token
    return max(1, min(PAIRS_PER_CHUNK, TEMPORARY_BYTES // (4 * num_tokens * channels)))
