"""The tokens of an image that RRT and ETR compare: a global one, and cells of its feature maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from reid.errors import ConfigError
from reid.matchers._base import MatcherConfig
from reid.matchers._inputs import map_shape, read_map
from reid.nn.dtype import at_least_float32
from reid.nn.pooling import GemPooling
from reid.types import FeatureSpec


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
        score_BS = functional.softplus(at_least_float32(self.score(self.hidden(map_BCHW).relu()))).flatten(1)
        return score_BS, _cells(at_least_float32(self.expand(reduced_BDHW)))


class LocalTokens(nn.Module):
    """Feature maps to tokens, as DELG makes them.

    The cells of all maps are reduced to D channels, to unit length; the attention keeps the best ``num_locals``. A
    map's place in ``strides`` (scale), where there are several, and a cell's row may be added as learned vectors. The
    global token is the deepest map's generalised mean, projected, to unit length. With ``center_maps`` entries are 0
    on average, and the generalised mean sees the positive ones only.

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
        self.scale_embedding = _embedding(len(channels), dim) if with_scale and len(channels) > 1 else None
        rows = [width for _, height, width in self.map_shapes.values() for _ in range(height)]  # cells of each
        self.row_embedding = _embedding(len(rows), dim) if config.row_embedding else None
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
        reduced = [at_least_float32(conv(m)) for conv, m in zip(self.reduce, read, strict=True)]
        cells_BSD = torch.cat([_cells(map_BDHW) for map_BDHW in reduced], dim=1)
        local_BLD = self._placed(functional.normalize(cells_BSD, dim=2))
        found: dict[str, Tensor] = {}
        if self.attended_dim is not None:
            score_BS, found = self._attend([m.detach() for m in read])
            kept_BL1 = score_BS.topk(self.num_locals, dim=1).indices[:, :, None]
            local_BLD = local_BLD.gather(1, kept_BL1.expand(-1, -1, local_BLD.shape[2]))
        local_BLD = functional.pad(local_BLD, (0, 0, 0, self.num_locals - local_BLD.shape[1]))
        if self.pooling is not None and self.project is not None:
            global_BD = functional.normalize(at_least_float32(self.project(self.pooling(maps[self.deepest]))))
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
            errors.append((cells_BSC - _cells(at_least_float32(map_BCHW))).square().mean((1, 2)))
        fields = {"attended": torch.cat(attended, dim=1), "reconstruction_error": torch.stack(errors).mean(0)}
        return score_BS, fields


def _embedding(num: int, dim: int) -> nn.Embedding:
    """Vectors that ``TokenMatcher.draw`` draws with all matrices, by Xavier's rule: sqrt(2 dim / (num + dim)) long.

    With fewer vectors than channels that is 1 to 1.4; the tokens they are added to have length 1.
    """
    embedding = nn.Embedding(num, dim)
    nn.init.normal_(embedding.weight)  # is drawn over; without it the seeds of recorded runs would draw other weights
    return embedding


def _repeated(counts: list[int]) -> Tensor:
    """0 as often as the first count says, then 1, and so on."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def _cells(map_BCHW: Tensor) -> Tensor:
    """[B, S, C], row by row."""
    return map_BCHW.flatten(2).transpose(1, 2)
