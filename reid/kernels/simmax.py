"""Best local matches of every image pair, without keeping the S x S similarity maps.

The all-pairs matchers need, for each position of one image, the largest (weighted) similarity with any position
of the other, in both directions. Their published form builds all Q * G maps at once, several times over when
gradients are wanted. Here maps exist for one block of pairs at a time, in buffers that are reused, and the
backward pass uses that a maximum sends its gradient to a single position: only those positions are remembered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from reid.errors import ShapeError

_BLOCK_ENTRIES = {"cpu": 2**20, "cuda": 2**25}
"""Map entries that exist at a time: near the caches of a CPU core, and enough to fill a GPU."""


@dataclass(frozen=True, slots=True)
class Maxima:
    """Largest similarities of each pair, per position.

    Attributes:
        over_gallery: best over gallery positions, for each query position, [Q, G, S] (aligned pairs: [N, S]).
        over_query: best over query positions, for each gallery position, the same shape.
    """

    over_gallery: Tensor
    over_query: Tensor


def similarity_maxima(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None = None) -> Maxima:
    """Maxima, in both directions, of ``weight[s, t] * <gallery at s, query at t>`` for all pairs.

    Where several positions tie, one of them is taken and receives the gradient, as ``Tensor.max(dim)`` does.
    Half-precision features are multiplied in their own precision on CUDA and in float32 elsewhere; the weight is
    applied, and results are, in float32 (float64 if the features are). A NaN reaches the pairs of its image only.

    Args:
        query_QSD: features of the query images, [Q, S, D], floating point.
        gallery_GSD: features of the gallery images, [G, S, D]; same S and D.
        weight_SS: factor of each position pair, first index gallery, second query, [S, S]; None: all ones.

    Returns:
        The maxima, [Q, G, S] each, with exact gradients for all three inputs (once differentiable).

    Raises:
        ShapeError: the shapes do not fit together, or there is no position or channel.

    Source: Liao and Shao, QAConv, ECCV 2020, and TransMatcher, NeurIPS 2021 (the formula, not the algorithm).
    """
    inputs = _prepare(query_QSD, gallery_GSD, weight_SS)
    with torch.autocast(query_QSD.device.type, enabled=False):
        if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs):
            return Maxima(*_SimilarityMaxima.apply(*inputs))  # type: ignore[no-untyped-call]
        return Maxima(*_search(*inputs, find_positions=False).maxima)


def aligned_maxima(query_NSD: Tensor, gallery_NSD: Tensor, weight_SS: Tensor | None = None) -> Maxima:
    """The same as :func:`similarity_maxima` for N pairs, query image n with gallery image n: [N, S] each.

    Keeps N maps of S x S where gradients are wanted.

    Raises:
        ShapeError: the shapes do not fit together, or there is no position or channel.
    """
    map_NSS = similarity_maps(query_NSD, gallery_NSD, weight_SS)
    return Maxima(map_NSS.max(1).values, map_NSS.max(2).values)


def similarity_maps(query_NSD: Tensor, gallery_NSD: Tensor, weight_SS: Tensor | None = None) -> Tensor:
    """``weight[s, t] * <gallery at s, query at t>`` of N aligned pairs, [N, S, S], first gallery, then query position.

    Raises:
        ShapeError: the shapes do not fit together, or there is no position or channel.
    """
    query_NSD, gallery_NSD, weight_SS = _prepare(query_NSD, gallery_NSD, weight_SS)
    if len(query_NSD) != len(gallery_NSD):
        raise ShapeError(
            f"aligned pairs: wanted as many query as gallery images, found {len(query_NSD)} and {len(gallery_NSD)}."
        )
    with torch.autocast(query_NSD.device.type, enabled=False):
        map_NSS = torch.bmm(gallery_NSD, query_NSD.transpose(1, 2)).to(_result_dtype(query_NSD))
        return map_NSS if weight_SS is None else map_NSS * weight_SS


def _prepare(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check shapes; bring both features to the precision of the product and the weight to that of the result."""
    _check_shapes(query_QSD, gallery_GSD, weight_SS)
    dtype = torch.promote_types(query_QSD.dtype, gallery_GSD.dtype)
    if not query_QSD.is_cuda:
        dtype = torch.promote_types(dtype, torch.float32)
    query_QSD, gallery_GSD = query_QSD.to(dtype), gallery_GSD.to(dtype)
    return query_QSD, gallery_GSD, None if weight_SS is None else weight_SS.to(_result_dtype(query_QSD))


def _result_dtype(features: Tensor) -> torch.dtype:
    return torch.promote_types(features.dtype, torch.float32)


@dataclass(frozen=True, slots=True)
class _Found:
    """Results of a search, each [2, Q, G, S]: first over gallery positions, then over query positions.

    ``position`` (where the maximum is) and ``similarity`` (its value before weighting) only when asked for.
    """

    maxima: Tensor
    position: Tensor | None
    similarity: Tensor | None


def _search(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None, *, find_positions: bool) -> _Found:
    shape = (2, len(query_QSD), len(gallery_GSD), query_QSD.shape[1])
    maxima = query_QSD.new_empty(shape, dtype=_result_dtype(query_QSD))
    position = torch.empty_like(maxima, dtype=torch.int32) if find_positions else None
    similarity = torch.empty_like(maxima) if find_positions and weight_SS is not None else None
    for block, map_qgSS, weighted_qgSS in _map_blocks(query_QSD, gallery_GSD, weight_SS):
        for direction, axis in enumerate((2, 3)):
            where = (direction, *block)
            if position is None:  # several times faster than a maximum with its position
                maxima[where] = weighted_qgSS.amax(axis)
                continue
            maxima[where], found = weighted_qgSS.max(axis)
            position[where] = found
            if similarity is not None:
                similarity[where] = map_qgSS.gather(axis, found.unsqueeze(axis)).squeeze(axis)
    return _Found(maxima, position, similarity)


def _map_blocks(
    query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None
) -> Iterator[tuple[tuple[slice, slice], Tensor, Tensor]]:
    """Blocks of (query images, gallery images) with their maps [q, g, S, S], plain and weighted.

    The maps live in two buffers that the next block overwrites: fresh large tensors cost more than the product.
    """
    (num_query, num_positions, dim), num_gallery = query_QSD.shape, len(gallery_GSD)
    pairs = max(1, _BLOCK_ENTRIES.get(query_QSD.device.type, _BLOCK_ENTRIES["cpu"]) // num_positions**2)
    block_g = max(1, min(num_gallery, pairs))
    block_q = max(1, min(num_query, pairs // block_g))
    buffer = query_QSD.new_empty(block_q * block_g * num_positions**2)
    weighted_buffer = buffer if weight_SS is None else torch.empty_like(buffer, dtype=weight_SS.dtype)
    for query_slice in _slices(num_query, block_q):
        query_qDS = query_QSD[query_slice].transpose(1, 2)
        for gallery_slice in _slices(num_gallery, block_g):
            gallery_XD = gallery_GSD[gallery_slice].reshape(-1, dim)
            shape = (len(query_qDS), -1, num_positions, num_positions)
            size = len(query_qDS) * len(gallery_XD) * num_positions
            map_qgSS, weighted_qgSS = buffer[:size].view(shape), weighted_buffer[:size].view(shape)
            torch.bmm(gallery_XD.expand(len(query_qDS), -1, -1), query_qDS, out=map_qgSS.flatten(1, 2))
            if weight_SS is not None:
                torch.mul(map_qgSS, weight_SS, out=weighted_qgSS)
            yield (query_slice, gallery_slice), map_qgSS, weighted_qgSS


def _slices(length: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


class _SimilarityMaxima(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None) -> tuple[Tensor, Tensor]:
        found = _search(query_QSD, gallery_GSD, weight_SS, find_positions=True)
        ctx.save_for_backward(query_QSD, gallery_GSD, weight_SS, found.position, found.similarity)
        return found.maxima[0], found.maxima[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        query_QSD, gallery_GSD, weight_SS, position, similarity = ctx.saved_tensors
        grad = torch.stack(grads)
        grad_weight_SS = None
        if weight_SS is not None:
            entry = _weight_entry(position)
            grad_weight_SS = torch.zeros_like(weight_SS)
            grad_weight_SS.view(-1).index_add_(0, entry.view(-1), (grad * similarity).view(-1))
            grad = grad * weight_SS.reshape(-1)[entry]
        grad_query, grad_gallery = _pull_back(query_QSD, gallery_GSD, position[0], grad[0])
        swapped = _pull_back(gallery_GSD, query_QSD, position[1].transpose(0, 1), grad[1].transpose(0, 1))
        grad_gallery += swapped[0]
        grad_query += swapped[1]
        return grad_query.to(query_QSD.dtype), grad_gallery.to(gallery_GSD.dtype), grad_weight_SS


def _weight_entry(position: Tensor) -> Tensor:
    """Flat index into the weight (gallery position * S + query position) of every maximum."""
    num_positions = position.shape[-1]
    own_S = torch.arange(num_positions, device=position.device)
    return torch.stack((position[0] * num_positions + own_S, own_S * num_positions + position[1]))


def _pull_back(own_XSD: Tensor, other_YSD: Tensor, position_XYS: Tensor, grad_XYS: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of ``sum grad[x, y, i] * <own[x, i], other[y, position[x, y, i]]>`` for own and other.

    Both are weighted sums of rows. Embedding bags add a row's terms in order, in one thread: the result is the
    same to the last bit whatever the number of threads.
    """
    (num_own, num_positions, dim), num_other = own_XSD.shape, len(other_YSD)
    own_rows, other_rows = own_XSD.reshape(-1, dim).to(grad_XYS.dtype), other_YSD.reshape(-1, dim).to(grad_XYS.dtype)
    other_Y1 = torch.arange(num_other, device=own_XSD.device, dtype=position_XYS.dtype)[:, None]
    row_of_other = (position_XYS + other_Y1 * num_positions).transpose(1, 2).reshape(-1, num_other).contiguous()
    grad = grad_XYS.transpose(1, 2).reshape(-1, num_other).contiguous()
    grad_own = functional.embedding_bag(row_of_other, other_rows, per_sample_weights=grad, mode="sum")

    order = row_of_other.view(-1).argsort(stable=True)
    count = torch.bincount(row_of_other.view(-1), minlength=len(other_rows))
    grad_other = functional.embedding_bag(
        order // num_other, own_rows, count.cumsum(0) - count, per_sample_weights=grad.view(-1)[order], mode="sum"
    )
    return grad_own.view(num_own, num_positions, dim), grad_other.view(num_other, num_positions, dim)


def _check_shapes(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None) -> None:
    shapes = [tuple(tensor.shape) for tensor in (query_QSD, gallery_GSD, weight_SS) if tensor is not None]
    fits = query_QSD.ndim == gallery_GSD.ndim == 3 and shapes[0][1:] == shapes[1][1:] and min(shapes[0][1:]) > 0
    if not fits or (weight_SS is not None and shapes[2] != (shapes[0][1],) * 2):
        raise ShapeError(
            "similarity maxima: wanted query [Q, S, D], gallery [G, S, D] and weight [S, S] or none, with the same S "
            f"and D of at least 1, found {', '.join(map(str, shapes))}. Were both encoded by the same matcher?"
        )
