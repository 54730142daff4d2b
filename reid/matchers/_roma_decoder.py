"""RoMa's coarse step: a Gaussian process, a transformer without positions, and anchors or a regression."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from reid.errors import ConfigError
from reid.matchers._base import MatcherConfig
from reid.matchers._dense import DenseDirection, DenseStep
from reid.nn.dtype import at_least_float32
from reid.nn.gaussian_process import GaussianProcess
from reid.nn.grid import cell_centres

POSITION_CELLS = 8
"""How many cells from the image's centre are 1 to the position embedding: from cell to cell it changes alike, whatever
the map's size. Published are 40 x 40 cells, hence 20. With 8 it tells neighbours better apart, and so it learns faster:
on translated images the anchors' cross-entropy was 1.91 after 50 steps, not 2.30."""


class CoarseConfig(MatcherConfig):
    """What the coarse step is."""

    name: str
    stride: PositiveInt = Field(16, description="of the backbone's map for the coarse step: ResNet's layer3; pixels")
    dim: PositiveInt = Field(128, description="channels of the coarse features")
    gp_dim: PositiveInt = Field(128, description="channels of the embedding of positions")
    temperature: PositiveFloat = Field(0.2, description="of the Gaussian process's kernel, as published")
    noise: PositiveFloat = Field(0.1, description="variance on the Gaussian process's diagonal, as published")
    num_blocks: PositiveInt = Field(3, description="transformer layers of the match decoder")
    num_heads: PositiveInt = Field(4, description="of each layer; dim + gp_dim is a multiple of it")
    feedforward: PositiveInt = Field(512, description="hidden units of each layer")
    head: Literal["anchors", "regression"] = Field(
        "anchors", description="'anchors': a probability for each of a grid of places; 'regression': one place, DKM's"
    )
    anchor_px: PositiveFloat = Field(8.0, description="side of an anchor's square tile; the image is filled with them")


class DecoderBlock(nn.Module):
    """One transformer layer, pre-norm: ``x = x + attention(norm(x)); x + W2 gelu(W1 norm(x))``.

    Args:
        dim: channels, D.
        num_heads: D is a multiple of it.
        feedforward: hidden units of the perceptron.

    Source: Dosovitskiy et al., ICLR 2021; queries, keys and values without bias, as in RoMa.
    """

    def __init__(self, dim: int, num_heads: int, feedforward: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out_proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)

    def forward(self, token_NSD: Tensor) -> Tensor:
        """Renew tokens, [N, S, D]; their order means nothing."""
        parts = self.qkv(self.norm1(token_NSD)).chunk(3, dim=2)
        q_NHSd, k_NHSd, v_NHSd = (x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in parts)
        found_NHSd = functional.scaled_dot_product_attention(q_NHSd, k_NHSd, v_NHSd)
        token_NSD = token_NSD + self.out_proj(found_NHSd.transpose(1, 2).flatten(2))
        out_NSD: Tensor = token_NSD + self.linear2(functional.gelu(self.linear1(self.norm2(token_NSD))))
        return out_NSD


class AnchorGrid(nn.Module):
    """The places a coarse match may have: centres of square tiles of an image, row by row.

    Args:
        image_size: (height, width) in pixels.
        anchor_px: side of a tile; both sides of the image are multiples of it.

    Attributes:
        centre_A2: (x, y) in pixels, [A, 2].

    Raises:
        ConfigError: the tiles do not fill the image.
    """

    centre_A2: Tensor
    near_A5: Tensor
    is_there_A5: Tensor

    def __init__(self, image_size: tuple[int, int], anchor_px: float) -> None:
        super().__init__()
        rows, columns = (round(side / anchor_px) for side in image_size)
        if max(abs(rows * anchor_px - image_size[0]), abs(columns * anchor_px - image_size[1])) > 1e-6:
            raise ConfigError(
                f"matcher roma: wanted images whose sides are multiples of anchor_px, found {image_size[0]} x "
                f"{image_size[1]} and {anchor_px:g}. Choose another anchor_px."
            )
        centre_A2 = cell_centres(rows, columns, anchor_px, torch.empty(0)).reshape(-1, 2)
        place_A2 = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
        near_A52 = place_A2[:, None] + torch.tensor([(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)])
        last_2 = torch.tensor([rows - 1, columns - 1])
        is_there_A5 = ((near_A52 >= 0) & (near_A52 <= last_2)).all(2)
        near_A52 = torch.minimum(near_A52.clamp(min=0), last_2)
        self.register_buffer("centre_A2", centre_A2, persistent=False)
        self.register_buffer("near_A5", near_A52[..., 0] * columns + near_A52[..., 1], persistent=False)
        self.register_buffer("is_there_A5", is_there_A5, persistent=False)

    def __len__(self) -> int:
        return len(self.centre_A2)

    @torch.no_grad()
    def decode(self, logit_NSA: Tensor) -> Tensor:
        """Mean of the most probable anchor and those left, right, above and below, by their probabilities.

        At the border, neighbours are clamped to the grid: to the anchor itself, which counts once.

        Args:
            logit_NSA: at least float32: rounded logits have ties, and a tie moves the mode.

        Returns:
            position_NS2: (x, y) in pixels, [N, S, 2]. Without gradient: the anchors learn from their probabilities.

        Source: RoMa. Differs: the released code's neighbours are those of the flattened grid, so that at a row's end
        an anchor at the image's other edge counts as near.
        """
        mode_NS = logit_NSA.argmax(2)
        near_NS5 = self.near_A5[mode_NS]
        share_NS5 = logit_NSA.softmax(2).gather(2, near_NS5) * self.is_there_A5[mode_NS]
        position_NS2 = (share_NS5[..., None] * self.centre_A2.to(logit_NSA.dtype)[near_NS5]).sum(2)
        return position_NS2 / share_NS5.sum(2, keepdim=True)


class CoarseMatcher(nn.Module):
    """Where each cell of one image's coarse map lies in another image, and how certain that is.

    The Gaussian process's posterior mean joins a cell's features, ``[mu ; phi]``; transformer layers over the cells of
    the one image, which know of no positions but those in mu, then a linear layer to anchor logits (or to a position)
    and a certainty logit.

    Args:
        config: see :class:`CoarseConfig`.
        image_size: (height, width) in pixels.
        map_size: (h, w) of the coarse map.

    Raises:
        ConfigError: the channels cannot be shared out among the heads, or the anchors do not fill the image.

    Source: Edstedt et al., RoMa, CVPR 2024, and its released code (MIT). The regression head is DKM's (CVPR 2023) in
    what it learns, with this transformer in place of DKM's convolutions.
    """

    def __init__(self, config: CoarseConfig, image_size: tuple[int, int], map_size: tuple[int, int]) -> None:
        super().__init__()
        dim = config.dim + config.gp_dim
        if dim % config.num_heads:
            raise ConfigError(
                f"matcher {config.name}: wanted dim + gp_dim a multiple of num_heads, found {dim}, {config.num_heads}."
            )
        self.stride = config.stride
        self.map_size = map_size
        self.anchors = AnchorGrid(image_size, config.anchor_px) if config.head == "anchors" else None
        self.gp = GaussianProcess(config.gp_dim, temperature=config.temperature, noise=config.noise)
        self.blocks = nn.ModuleList(
            DecoderBlock(dim, config.num_heads, config.feedforward) for _ in range(config.num_blocks)
        )
        self.to_out = nn.Linear(dim, 1 + (2 if self.anchors is None else len(self.anchors)))

    def weights(self, coarse_NSC: Tensor) -> Tensor:
        """What the Gaussian process needs of an image beside its features, [N, S, gp_dim]."""
        height, width = self.map_size
        centre_S2 = cell_centres(height, width, 1, self.gp.position.weight).reshape(-1, 2)
        position_S2 = (centre_S2 - centre_S2.new_tensor((width / 2, height / 2))) / POSITION_CELLS
        return self.gp.weights(coarse_NSC, position_S2)

    def forward(self, own_NSC: Tensor, other_NSC: Tensor, weight_NSD: Tensor) -> DenseDirection:
        """Match cells.

        Args:
            own_NSC: coarse features of N images, row by row, at least float32.
            other_NSC: of the images they are looked for in.
            weight_NSD: of these, from :meth:`weights`.

        Returns:
            the coarse step alone.
        """
        token_NSE = torch.cat((self.gp(own_NSC, other_NSC, weight_NSD), own_NSC), dim=2)
        for block in self.blocks:
            token_NSE = block(token_NSE)
        with torch.autocast(token_NSE.device.type, enabled=False):  # logits rounded to 16 bits have ties
            out_NSO = at_least_float32(self.to_out(token_NSE.to(self.to_out.weight.dtype)))
        place_NSX, certainty_NS = out_NSO[..., :-1], out_NSO[..., -1]
        certainty_NHW = certainty_NS.unflatten(1, self.map_size)
        if self.anchors is None:
            half_2 = place_NSX.new_tensor((self.map_size[1], self.map_size[0])) * self.stride / 2
            warp_NHW2 = ((1 + place_NSX) * half_2).unflatten(1, self.map_size)
            return DenseDirection((DenseStep(self.stride, warp_NHW2, certainty_NHW),), None)
        warp_NHW2 = self.anchors.decode(place_NSX).unflatten(1, self.map_size)
        logit_NAHW = place_NSX.mT.unflatten(2, self.map_size)
        return DenseDirection((DenseStep(self.stride, warp_NHW2, certainty_NHW),), logit_NAHW)
