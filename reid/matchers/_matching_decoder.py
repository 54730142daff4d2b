"""TransMatcher's decoder: best local similarities of a pair, weighted by position, scored by a perceptron."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from reid.kernels.mlp_head import MlpHead
from reid.kernels.simmax import Maxima, aligned_maxima, similarity_maxima
from reid.matchers._all_pairs import TEMPORARY_BYTES
from reid.nn.attention import Init
from reid.nn.norm import affine, normalised_linear

Pool = Literal["max", "mean", "softmax"]
"""What of a position's similarities with all positions of the other image goes on."""

Embed = Literal["free", "symmetric", "none"]
"""The score embedding: as learned, the mean of itself and its transpose, or none at all."""

_MAP_BYTES = {"cpu": 2**22, "cuda": TEMPORARY_BYTES // 8}
"""Of a block's similarity maps; softmax and gradients make eight times as much of them. On a CPU, what caches hold."""


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


def similarity_means(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None, *, aligned: bool) -> Maxima:
    """Means of weighted similarities over gallery and over query positions, in the place of maxima.

    A mean of products with one vector is the product with a mean of vectors: no similarity map is needed.

    Args:
        query_QSD: keys of one level, [Q, S, D].
        gallery_GSD: [G, S, D].
        weight_SS: factor of each position pair, first index gallery, second query; None: all ones.
        aligned: query image n with gallery image n only.

    Returns:
        [2, Q, G, S] or [2, N, S], with gradients, in at least float32.
    """
    query_QSD, gallery_GSD = _in_float32(query_QSD), _in_float32(gallery_GSD)
    if weight_SS is None:
        weight_SS = query_QSD.new_ones(query_QSD.shape[1], query_QSD.shape[1])
    weight_SS = weight_SS.to(query_QSD.dtype) / len(weight_SS)
    formula = "ntd,ntd->nt" if aligned else "qtd,gtd->qgt"
    over_gallery = torch.einsum(formula, query_QSD, weight_SS.T @ gallery_GSD)
    over_query = torch.einsum(formula, weight_SS @ query_QSD, gallery_GSD)
    return Maxima(torch.stack((over_gallery, over_query)))


def similarity_softmax(
    query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None, *, scale: float, aligned: bool
) -> Maxima:
    """Softmax attention in the place of the maxima: ``sum_s softmax_s(scale * x_st) x_st`` of weighted similarities x.

    And the same over t. The larger the scale, the nearer to the maximum. Maps exist for a block of pairs at a time,
    with all that is made of them within :data:`TEMPORARY_BYTES`; gradients compute them again.

    Args:
        query_QSD: keys of one level, [Q, S, D].
        gallery_GSD: [G, S, D].
        weight_SS: factor of each position pair, first index gallery, second query; None: all ones.
        scale: of the similarities in the softmax.
        aligned: query image n with gallery image n only.

    Returns:
        [2, Q, G, S] or [2, N, S], with gradients, in at least float32.
    """
    query_QSD, gallery_GSD = _in_float32(query_QSD), _in_float32(gallery_GSD)
    if weight_SS is not None:
        weight_SS = weight_SS.to(query_QSD.dtype)
    both: Tensor = _SoftmaxPooling.apply(query_QSD, gallery_GSD, weight_SS, scale, aligned)  # type: ignore[no-untyped-call]
    return Maxima(both.squeeze(2) if aligned else both)


class _SoftmaxPooling(torch.autograd.Function):
    """Blocks write into one result, and each block's maps are made again for its gradients.

    Graphs of blocks that live side by side would do, but for the memory: their small results, one between each two
    blocks' maps, keep a CPU's allocator from using the room of the maps again, which takes three times as much in all.
    """

    @staticmethod
    def forward(
        ctx: Any, query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None, scale: float, aligned: bool
    ) -> Tensor:
        ctx.save_for_backward(query_QSD, gallery_GSD, weight_SS)
        ctx.settings = scale, aligned
        both_2QGS = query_QSD.new_empty(2, len(query_QSD), 1 if aligned else len(gallery_GSD), query_QSD.shape[1])
        for rows, others, columns in _softmax_blocks(query_QSD, len(gallery_GSD), aligned=aligned):
            both_2QGS[:, rows, columns] = _softmax_block(
                query_QSD[rows], gallery_GSD[others], weight_SS, scale, aligned
            )
        return both_2QGS

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_2QGS: Tensor) -> tuple[Tensor | None, ...]:
        given = [tensor for tensor in ctx.saved_tensors if tensor is not None]  # two or three
        grads = [torch.zeros_like(tensor) for tensor in given]
        scale, aligned = ctx.settings
        for rows, others, columns in _softmax_blocks(given[0], len(given[1]), aligned=aligned):
            places = (rows, others, slice(None))[: len(given)]
            leaves = [tensor[place].detach().requires_grad_() for tensor, place in zip(given, places, strict=True)]
            with torch.enable_grad():
                block = _softmax_block(leaves[0], leaves[1], leaves[2] if leaves[2:] else None, scale, aligned)
            found = torch.autograd.grad(block, leaves, grad_2QGS[:, rows, columns])
            for total, place, grad in zip(grads, places, found, strict=True):
                total[place] += grad
        return *grads, *[None] * (5 - len(grads))


def _softmax_blocks(query_QSD: Tensor, num_gallery: int, *, aligned: bool) -> Iterator[tuple[slice, slice, slice]]:
    """Query images, gallery images, and where in the result's gallery dimension they stand."""
    limit = _MAP_BYTES.get(query_QSD.device.type, _MAP_BYTES["cpu"])
    pairs = max(1, limit // (query_QSD.itemsize * query_QSD.shape[1] ** 2))
    block_g = 1 if aligned else min(num_gallery, pairs)
    block_q = max(1, pairs // block_g)
    for start in range(0, len(query_QSD), block_q):
        rows = slice(start, start + block_q)
        if aligned:
            yield rows, rows, slice(None)
            continue
        for start_g in range(0, num_gallery, block_g):
            columns = slice(start_g, start_g + block_g)
            yield rows, columns, columns


def _softmax_block(
    query_QTD: Tensor, gallery_GSD: Tensor, weight_ST: Tensor | None, scale: float, aligned: bool
) -> Tensor:
    """Both directions, [2, Q, G, S]; G = 1 for aligned pairs."""
    if aligned:
        map_QTGS = (query_QTD @ gallery_GSD.transpose(1, 2)).unsqueeze(2)
    else:
        map_QTGS = torch.tensordot(query_QTD, gallery_GSD, dims=([2], [2]))
    if weight_ST is not None:
        map_QTGS = map_QTGS * weight_ST.T[:, None]
    over_gallery, over_query = (((map_QTGS * scale).softmax(dim) * map_QTGS).sum(dim) for dim in (3, 1))
    return torch.stack((over_gallery.transpose(1, 2), over_query))


def _in_float32(keys: Tensor) -> Tensor:
    return keys.to(torch.promote_types(keys.dtype, torch.float32))
