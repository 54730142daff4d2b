"""What TransMatcher's ablations put in the place of maxima: means, and means weighted by a softmax."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reid.kernels.simmax import Maxima
from reid.matchers._base import TEMPORARY_BYTES
from reid.nn.dtype import at_least_float32

_MAP_BYTES = {"cpu": 2**22, "cuda": TEMPORARY_BYTES // 8}
"""Of a block's similarity maps; softmax and gradients make eight times as much of them. On a CPU, what caches hold."""


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
    query_QSD, gallery_GSD = at_least_float32(query_QSD), at_least_float32(gallery_GSD)
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
    query_QSD, gallery_GSD = at_least_float32(query_QSD), at_least_float32(gallery_GSD)
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
