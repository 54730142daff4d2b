"""Layers through which keypoints tell each other what they are: SuperGlue's perceptrons and attention."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

PointNormName = Literal["batch", "layer"]


class PointBatchNorm(nn.BatchNorm1d):
    """Batch norm over the channels of keypoints, [N, K, C]. Padding has no part in the statistics."""

    def forward(self, point_NKC: Tensor, mask_NK: Tensor | None = None) -> Tensor:
        """Normalise; ``mask_NK`` says which keypoints there are, None: all."""
        if mask_NK is None or not self.training:
            return super().forward(point_NKC.flatten(0, 1)).view_as(point_NKC)
        normed_XC = super().forward(point_NKC[mask_NK])
        return point_NKC.new_zeros(point_NKC.shape).to(normed_XC.dtype).masked_scatter(mask_NK[:, :, None], normed_XC)


class PointLayerNorm(nn.LayerNorm):
    """Layer norm over the channels of each keypoint: the same in training and evaluation, whatever the padding."""

    def forward(self, point_NKC: Tensor, mask_NK: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Normalise."""
        return super().forward(point_NKC)


class PointPerceptron(nn.Module):
    """Linear layers on the channels of each keypoint; norm and ReLU after all but the last, whose bias begins at 0.

    Args:
        widths: channels before the first, between, and after the last layer.
        norm: see :class:`PointBatchNorm` and :class:`PointLayerNorm`.
    """

    def __init__(self, widths: Sequence[int], norm: PointNormName) -> None:
        super().__init__()
        make = PointBatchNorm if norm == "batch" else PointLayerNorm
        *hidden, last = pairwise(widths)
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in hidden)
        self.norms = nn.ModuleList(make(width) for _, width in hidden)
        self.last = nn.Linear(*last)
        nn.init.zeros_(self.last.bias)

    def forward(self, point_NKC: Tensor, mask_NK: Tensor | None = None) -> Tensor:
        """Channels after the last layer, [N, K, C']; ``mask_NK`` says which keypoints there are, None: all."""
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            point_NKC = norm(linear(point_NKC), mask_NK).relu()
        out_NKC: Tensor = self.last(point_NKC)
        return out_NKC


class MessageLayer(nn.Module):
    """Each keypoint adds to itself what it makes of a message: ``x + mlp([x; attention(x, source, source)])``.

    Args:
        dim: channels, D.
        num_heads: D is a multiple of it.
        norm: of the perceptron.

    Source: Sarlin et al., SuperGlue, CVPR 2020, eqs. 3-5; heads as in Vaswani et al., NIPS 2017.
    """

    def __init__(self, dim: int, num_heads: int, norm: PointNormName) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.merge = nn.Linear(dim, dim)
        self.mlp = PointPerceptron((2 * dim, 2 * dim, dim), norm)

    def forward(
        self, target_NKD: Tensor, source_NLD: Tensor, target_mask_NK: Tensor | None, source_mask_NL: Tensor | None
    ) -> Tensor:
        """Renew the target keypoints.

        Args:
            target_NKD: keypoints to renew.
            source_NLD: keypoints they hear from: their own, or the other image's.
            target_mask_NK: which there are, bool; None: all.
            source_mask_NL: likewise. Where there is none at all, the message means nothing, but is finite.

        Returns:
            [N, K, D].
        """
        key_NLD, value_NLD = self.key_value(source_NLD).chunk(2, dim=2)
        q_NHKd, k_NHLd, v_NHLd = (
            x.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for x in (self.query(target_NKD), key_NLD, value_NLD)
        )
        heard_N11L = None
        if source_mask_NL is not None:
            heard_N11L = (source_mask_NL | ~source_mask_NL.any(1, keepdim=True))[:, None, None]
        found_NHKd = functional.scaled_dot_product_attention(q_NHKd, k_NHLd, v_NHLd, attn_mask=heard_N11L)
        message_NKD = self.merge(found_NHKd.transpose(1, 2).flatten(2))
        told_NKC = torch.cat((target_NKD, message_NKD), dim=2)
        out_NKD: Tensor = target_NKD + self.mlp(told_NKC, target_mask_NK)
        return out_NKD


class MessagePassing(nn.Module):
    """Layers in which keypoints hear from their own image (self) and from the other (cross), in turn.

    All weights are shared by the two images, both of which hear what was before the layer.

    Args:
        num_layers: in all, self first; 0: none.
        dim: channels, D.
        num_heads: D is a multiple of it.
        norm: of the perceptrons.
        cross: False: the cross layers are left out, and with them all that one image could know of the other.

    Attributes:
        alone: the layers before the first cross layer, which depend on one image only.
        between: the others.
    """

    def __init__(self, num_layers: int, dim: int, num_heads: int, norm: PointNormName, *, cross: bool) -> None:
        super().__init__()
        num_alone = min(num_layers, 1) if cross else (num_layers + 1) // 2
        num_between = num_layers - num_alone if cross else 0
        self.alone = nn.ModuleList(MessageLayer(dim, num_heads, norm) for _ in range(num_alone))
        self.between = nn.ModuleList(MessageLayer(dim, num_heads, norm) for _ in range(num_between))

    def within(self, token_NKD: Tensor, mask_NK: Tensor | None) -> Tensor:
        """Keypoints of N images through the layers that depend on one image only, [N, K, D]."""
        for layer in self.alone:
            token_NKD = layer(token_NKD, token_NKD, mask_NK, mask_NK)
        return token_NKD

    def forward(self, token_XKD: Tensor, mask_XK: Tensor | None) -> Tensor:
        """Keypoints of N pairs through the others.

        Args:
            token_XKD: of all query images, then of all gallery images, as :meth:`within` left them, [2N, K, D].
            mask_XK: which there are, [2N, K], bool; None: all.
        """
        half = len(token_XKD) // 2  # rolling by it swaps the sides
        other_XK = None if mask_XK is None else mask_XK.roll(half, 0)
        for idx, layer in enumerate(self.between):
            if idx % 2:
                token_XKD = layer(token_XKD, token_XKD, mask_XK, mask_XK)
            else:
                token_XKD = layer(token_XKD, token_XKD.roll(half, 0), mask_XK, other_XK)
        return token_XKD
