"""TransMatcher's decoder: best local similarities of a pair, weighted by position, scored by a perceptron."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from reid.kernels.mlp_head import MlpHead
from reid.kernels.simmax import Maxima, aligned_maxima, similarity_maxima
from reid.matchers._soft_maxima import similarity_means, similarity_softmax
from reid.nn.attention import Init
from reid.nn.norm import affine, normalised_linear

Pool = Literal["max", "mean", "softmax"]
"""What of a position's similarities with all positions of the other image goes on."""

Embed = Literal["free", "symmetric", "none"]
"""The score embedding: as learned, the mean of itself and its transpose, or none at all."""


class MatchingLayer(nn.Module):
    """One decoder layer: from the best local similarities of a pair to a logit.

    Args:
        num_positions: S, positions of the feature map.
        dim: D, channels.
        feedforward: hidden units of the perceptron.
        embed: see :data:`Embed`.
    """

    score_embed: nn.Parameter | None

    def __init__(self, num_positions: int, dim: int, feedforward: int, *, embed: Embed) -> None:
        super().__init__()
        self.symmetric = embed == "symmetric"
        # Two leading ones as in released checkpoints: the bound of Xavier's draw depends on them.
        shape = (1, 1, num_positions, num_positions)
        self.score_embed = None if embed == "none" else nn.Parameter(torch.empty(shape))
        self.fc1 = nn.Linear(dim, dim)
        self.bn1 = nn.BatchNorm1d(1)
        self.fc2 = nn.Linear(num_positions, feedforward)
        self.bn2 = nn.BatchNorm1d(feedforward)
        self.fc3 = nn.Linear(feedforward, 1)
        self.bn3 = nn.BatchNorm1d(1)

    def weight(self) -> Tensor | None:
        """Factor of each position pair, 0..1, [S, S], first index gallery, second query position; None: all ones."""
        if self.score_embed is None:
            return None
        embed_SS = self.score_embed[0, 0]
        if self.symmetric:
            embed_SS = (embed_SS + embed_SS.T) / 2
        return embed_SS.sigmoid()

    def forward(self, maxima: Maxima) -> Tensor:
        """Logits of N pairs, [N], from the maxima of pairs in any form; with gradients, batch norms by their mode."""
        rows_XS = self.bn1(maxima.both.reshape(-1, 1, self.fc2.in_features)).squeeze(1)
        head = MlpHead(*normalised_linear(self.fc2, self.bn2, rows_XS), self.fc3.weight[0])
        logit_N = (head.trainable_logits(rows_XS) + self.fc3.bias).view(2, -1).sum(0)
        return self.bn3(logit_N.unsqueeze(1)).squeeze(1)  # type: ignore[no-any-return]

    def infer(self, maxima: Maxima, *, halves: bool) -> Tensor:
        """The same in eval mode without gradients: batch norms folded into the weights, no hidden layer kept."""
        rows_XS = maxima.both.view(-1, self.fc2.in_features)
        logit_N = self._folded().logits(rows_XS, halves=halves).view(2, -1).sum(0)
        scale, shift = affine(self.bn3)
        return (logit_N + 2 * self.fc3.bias) * scale + shift

    def _folded(self) -> MlpHead:
        scale, shift = affine(self.bn1)
        weight_FS, bias_F = normalised_linear(self.fc2, self.bn2, self.fc2.weight[:0])
        return MlpHead(weight_FS * scale, bias_F + weight_FS.sum(1) * shift, self.fc3.weight[0])


class MatchingDecoder(nn.Module):
    """Decoder layers side by side, each on its own level of features; their logits are added and normalised.

    In training mode the statistics of every batch norm are over all pairs of the one call, as released.

    Args:
        num_layers: L.
        num_positions: S, positions of the feature map.
        dim: D, channels.
        feedforward: hidden units of the layers.
        embed: see :data:`Embed`.
        pool: see :data:`Pool`; ``max`` is TransMatcher, the others are for comparison.
        init: ``released``: layers start as copies of one; ``independent``: each its own.
    """

    def __init__(
        self, num_layers: int, *, num_positions: int, dim: int, feedforward: int, embed: Embed, pool: Pool, init: Init
    ) -> None:
        super().__init__()
        self.pool = pool
        self.softmax_scale = dim**-0.5  # of the projections as trained, also where some directions are cut off
        size = (num_positions, dim, feedforward)
        first = MatchingLayer(*size, embed=embed)
        others = (
            copy.deepcopy(first) if init == "released" else MatchingLayer(*size, embed=embed)
            for _ in range(num_layers - 1)
        )
        self.layers = nn.ModuleList([first, *others])
        self.norm = nn.BatchNorm1d(1)
        for parameter in self.parameters():  # biases stay: with copies they are equal in all layers, as released
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def matching_layers(self) -> list[MatchingLayer]:
        """The layers, level by level."""
        return [layer for layer in self.layers if isinstance(layer, MatchingLayer)]

    def project(self, features: Sequence[Tensor]) -> Tensor:
        """Keys, [B, L, S, D], of the features of each level, [B, S, D] each."""
        return torch.stack(
            [layer.fc1(level) for layer, level in zip(self.matching_layers(), features, strict=True)], dim=1
        )

    @torch.no_grad()
    def cut(self, rank: int) -> None:
        """Leave each projection its ``rank`` largest singular directions only.

        A similarity <Wx, Wy> is the sum over the singular values s of W of s^2 <v, x> <v, y>, the bias counted as a
        column of W: the smallest s are left out.
        """
        for layer in self.matching_layers():
            weight_DE = torch.cat((layer.fc1.weight, layer.fc1.bias[:, None]), dim=1)
            direction_RD = torch.linalg.svd(weight_DE.double()).U[:, :rank].T
            cut_RE = (direction_RD @ weight_DE.double()).to(weight_DE.dtype)
            layer.fc1 = nn.Linear(layer.fc1.in_features, rank, device=weight_DE.device)
            layer.fc1.weight.copy_(cut_RE[:, :-1])
            layer.fc1.bias.copy_(cut_RE[:, -1])

    def forward(self, query_NLSD: Tensor, gallery_NLSD: Tensor, *, aligned: bool) -> Tensor:
        """Score keys: aligned pairs, [N], or every query with every gallery image, [Q, G]; at least float32."""
        pooled = self._pooling(aligned=aligned)
        pairs = (len(query_NLSD),) if aligned else (len(query_NLSD), len(gallery_NLSD))
        fast = not (self.training or torch.is_grad_enabled())
        halves = query_NLSD.dtype == gallery_NLSD.dtype == torch.bfloat16
        query_levels = query_NLSD.unbind(1)  # selecting levels one by one would give each a gradient of all levels
        gallery_levels = query_levels if gallery_NLSD is query_NLSD else gallery_NLSD.unbind(1)
        total_N = query_NLSD.new_zeros(1, dtype=self.norm.weight.dtype)
        with torch.autocast(query_NLSD.device.type, enabled=False):  # the head's sums do not bear half precision
            for query, gallery, layer in zip(query_levels, gallery_levels, self.matching_layers(), strict=True):
                maxima = pooled(query, gallery, layer.weight())
                total_N = total_N + (layer.infer(maxima, halves=halves) if fast else layer(maxima))
            return self.norm(total_N.unsqueeze(1)).view(pairs)  # type: ignore[no-any-return]

    def _pooling(self, *, aligned: bool) -> Callable[[Tensor, Tensor, Tensor | None], Maxima]:
        if self.pool == "max":
            return aligned_maxima if aligned else similarity_maxima
        if self.pool == "mean":
            return partial(similarity_means, aligned=aligned)
        return partial(similarity_softmax, scale=self.softmax_scale, aligned=aligned)
