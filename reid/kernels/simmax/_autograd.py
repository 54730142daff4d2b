"""Maxima with gradients: only the positions of the maxima are kept for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from reid.kernels.native import matching
from reid.kernels.simmax._backend import backend
from reid.kernels.simmax._blocks import search_positions


class SimilarityMaxima(torch.autograd.Function):
    """``apply(query_QSD, gallery_GSD, weight_SS or None)`` -> [2, Q, G, S], exact gradients, once differentiable.

    A batch against itself is one object given twice; its whole gradient then is the first one's.
    """

    @staticmethod
    def forward(ctx: Any, query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None) -> Tensor:
        maxima, position = position_search(query_QSD)(query_QSD, gallery_GSD, weight_SS)
        ctx.same = gallery_GSD is query_QSD
        ctx.save_for_backward(query_QSD, gallery_GSD, weight_SS, maxima, position)
        return maxima

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        query_QSD, gallery_GSD, weight_SS, maxima, position = ctx.saved_tensors
        if grad.numel() == 0:
            return tuple(None if tensor is None else torch.zeros_like(tensor) for tensor in ctx.saved_tensors[:3])  # type: ignore[return-value]
        grad_weight_SS = None
        if weight_SS is not None:
            grad, grad_weight_SS = _past_weight(grad, query_QSD, gallery_GSD, weight_SS, maxima, position)
        query_rows = _rows(query_QSD, grad.dtype)
        gallery_rows = query_rows if ctx.same else _rows(gallery_GSD, grad.dtype)
        grad_query = torch.zeros_like(query_rows)
        grad_gallery = grad_query if ctx.same else torch.zeros_like(gallery_rows)
        _pull_back(query_rows, gallery_rows, position[0], grad[0], (grad_query, grad_gallery))
        position_GQS, grad_GQS = position[1].transpose(0, 1), grad[1].transpose(0, 1)
        _pull_back(gallery_rows, query_rows, position_GQS, grad_GQS, (grad_gallery, grad_query))
        grad_query_QSD = grad_query.view_as(query_QSD).to(query_QSD.dtype)
        if ctx.same:
            return grad_query_QSD, None, grad_weight_SS
        return grad_query_QSD, grad_gallery.view_as(gallery_GSD).to(gallery_GSD.dtype), grad_weight_SS


def position_search(features: Tensor) -> Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]:
    """What finds the maxima of such features and their positions."""
    way = backend(features, 0)
    if way == "native":
        return matching.maxima_and_positions
    if way == "triton":
        from reid.kernels.simmax import _triton  # noqa: PLC0415 - importing triton takes as long as all the rest

        return _triton.maxima_and_positions
    return search_positions


def _past_weight(
    grad: Tensor, query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor, maxima: Tensor, position: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the similarities at the maxima, and of the weight."""
    entry = _weight_entry(position)
    factor = weight_SS.reshape(-1)[entry]
    similarity = _before_weight(maxima, factor, query_QSD, gallery_GSD, position)
    grad_weight_SS = torch.zeros_like(weight_SS)
    grad_weight_SS.view(-1).index_add_(0, entry.view(-1), (grad * similarity).view(-1))
    return grad * factor, grad_weight_SS


def _before_weight(maxima: Tensor, factor: Tensor, query_QSD: Tensor, gallery_GSD: Tensor, position: Tensor) -> Tensor:
    """The similarities that became ``maxima`` when they were multiplied by ``factor``, [2, Q, G, S] all."""
    similarity = maxima / factor
    lost = factor == 0
    if lost.any():
        direction, query, gallery, own = lost.nonzero().unbind(1)
        other = position[lost].long()
        query_XD = query_QSD[query, torch.where(direction == 0, own, other)]
        gallery_XD = gallery_GSD[gallery, torch.where(direction == 0, other, own)]
        similarity[lost] = (query_XD * gallery_XD).sum(1).to(similarity.dtype)
    return similarity


def _weight_entry(position: Tensor) -> Tensor:
    """Flat index into the weight (gallery position * S + query position) of every maximum."""
    num_positions = position.shape[-1]
    own_S = torch.arange(num_positions, device=position.device)
    return torch.stack((position[0] * num_positions + own_S, own_S * num_positions + position[1]))


def _rows(feature_NSD: Tensor, dtype: torch.dtype) -> Tensor:
    return feature_NSD.reshape(-1, feature_NSD.shape[-1]).to(dtype)


def _pull_back(
    own_rows: Tensor, other_rows: Tensor, position_XYS: Tensor, grad_XYS: Tensor, into: tuple[Tensor, Tensor]
) -> None:
    """Add gradients of ``sum grad[x, y, i] * <own[x, i], other[y, position[x, y, i]]>`` for own and other, [X * S, D].

    Both are weighted sums of rows. Embedding bags add a row's terms in order, in one thread: the result is the
    same to the last bit whatever the number of threads.
    """
    _, num_other, num_positions = position_XYS.shape
    other_Y1 = torch.arange(num_other, device=own_rows.device, dtype=position_XYS.dtype)[:, None]
    row_of_other = (position_XYS + other_Y1 * num_positions).transpose(1, 2).reshape(-1, num_other).contiguous()
    grad = grad_XYS.transpose(1, 2).reshape(-1, num_other).contiguous()
    grad_own, grad_other = into
    grad_own += functional.embedding_bag(row_of_other, other_rows, per_sample_weights=grad, mode="sum")

    order = row_of_other.view(-1).argsort(stable=True)
    count = torch.bincount(row_of_other.view(-1), minlength=len(other_rows))
    grad_other += functional.embedding_bag(
        order // num_other, own_rows, count.cumsum(0) - count, per_sample_weights=grad.view(-1)[order], mode="sum"
    )
