"""Best local matches of every image pair, without keeping the S x S similarity maps.

The all-pairs matchers need, for each position of one image, the largest (weighted) similarity with any position
of the other, in both directions. Their published form builds all Q * G maps at once, several times over when
gradients are wanted. Here maps exist for one block of pairs at a time, in buffers that are reused, and the
backward pass uses that a maximum sends its gradient to a single position: only those positions are remembered.
Without gradients, bfloat16 features on a CPU take the fastest of three ways, see :func:`backend`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reid.errors import ShapeError
from reid.kernels.native import matching
from reid.kernels.simmax._autograd import SimilarityMaxima, position_search
from reid.kernels.simmax._backend import (
    Backend,
    backend,
    describe,
    forced_backend,
    has_bfloat16,
    multiplied_dtype,
    using,
)
from reid.kernels.simmax._blocks import compiled_weigh_and_reduce, result_dtype, search, weigh_and_reduce

__all__ = [
    "Backend",
    "Maxima",
    "aligned_maxima",
    "backend",
    "describe",
    "forced_backend",
    "has_bfloat16",
    "similarity_maps",
    "similarity_maxima",
    "similarity_maxima_and_positions",
    "using",
]


@dataclass(frozen=True, slots=True)
class Maxima:
    """Largest similarities of each pair, per position.

    Attributes:
        both: [2, Q, G, S] (aligned pairs: [2, N, S]), the two below.
    """

    both: Tensor

    @property
    def over_gallery(self) -> Tensor:
        """Best over gallery positions, for each query position, [Q, G, S] or [N, S]."""
        return self.both[0]

    @property
    def over_query(self) -> Tensor:
        """Best over query positions, for each gallery position, the same shape."""
        return self.both[1]


def similarity_maxima(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None = None) -> Maxima:
    """Maxima, in both directions, of ``weight[s, t] * <gallery at s, query at t>`` for all pairs.

    Where several positions tie, one of them is taken and receives the gradient, as ``Tensor.max(dim)`` does. A NaN
    reaches the pairs of its image only.

    The features' dtype says how they are multiplied: as they are on CUDA. On a CPU float16 is multiplied in float32,
    and bfloat16 as well where the CPU has no instructions for it, or with gradients there is no native kernel.
    Sums and results are at least float32. With bfloat16 on a CPU the weight is rounded to half precision, and so are
    the maps where the native kernel is missing.

    Args:
        query_QSD: features of the query images, [Q, S, D], floating point.
        gallery_GSD: features of the gallery images, [G, S, D]; same S and D.
        weight_SS: factor of each position pair, first index gallery, second query, [S, S]; None: all ones.

    Returns:
        The maxima, with exact gradients for all three inputs (once differentiable).

    Raises:
        ShapeError: the shapes do not fit together, or there is no position or channel.

    Source: Liao and Shao, QAConv, ECCV 2020, and TransMatcher, NeurIPS 2021 (the formula, not the algorithm).
    """
    _check_shapes(query_QSD, gallery_GSD, weight_SS)
    given = [tensor for tensor in (query_QSD, gallery_GSD, weight_SS) if tensor is not None]
    with_grad = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    inputs = _prepare(query_QSD, gallery_GSD, weight_SS, with_grad=with_grad)
    with torch.autocast(query_QSD.device.type, enabled=False):
        if with_grad:
            return Maxima(SimilarityMaxima.apply(*inputs))  # type: ignore[no-untyped-call]
        return Maxima(_search(*inputs))


def similarity_maxima_and_positions(
    query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None = None
) -> tuple[Maxima, Tensor]:
    """The same without gradients, and where the maxima are: [2, Q, G, S], int32, of ties any one.

    The first are gallery positions, the second query positions.

    Raises:
        ShapeError: the shapes do not fit together, or there is no position or channel.
    """
    _check_shapes(query_QSD, gallery_GSD, weight_SS)
    inputs = _prepare(query_QSD.detach(), gallery_GSD.detach(), weight_SS, with_grad=True)
    with torch.autocast(query_QSD.device.type, enabled=False), torch.no_grad():
        maxima, position = position_search(inputs[0])(*inputs)
    return Maxima(maxima), position


def aligned_maxima(query_NSD: Tensor, gallery_NSD: Tensor, weight_SS: Tensor | None = None) -> Maxima:
    """The same as :func:`similarity_maxima` for N pairs, query image n with gallery image n: [2, N, S].

    Keeps N maps of S x S where gradients are wanted.

    Raises:
        ShapeError: the shapes do not fit together, or there is no position or channel.
    """
    map_NSS = similarity_maps(query_NSD, gallery_NSD, weight_SS)
    return Maxima(torch.stack((map_NSS.max(1).values, map_NSS.max(2).values)))


def similarity_maps(query_NSD: Tensor, gallery_NSD: Tensor, weight_SS: Tensor | None = None) -> Tensor:
    """``weight[s, t] * <gallery at s, query at t>`` of N aligned pairs, [N, S, S], first gallery, then query position.

    Raises:
        ShapeError: the shapes do not fit together, or there is no position or channel.
    """
    _check_shapes(query_NSD, gallery_NSD, weight_SS)
    query_NSD, gallery_NSD, weight_SS = _prepare(query_NSD, gallery_NSD, weight_SS, with_grad=True)
    if len(query_NSD) != len(gallery_NSD):
        raise ShapeError(
            f"aligned pairs: wanted as many query as gallery images, found {len(query_NSD)} and {len(gallery_NSD)}."
        )
    with torch.autocast(query_NSD.device.type, enabled=False):
        map_NSS = torch.bmm(gallery_NSD, query_NSD.transpose(1, 2)).to(result_dtype(query_NSD))
        return map_NSS if weight_SS is None else map_NSS * weight_SS


def _search(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None) -> Tensor:
    way = backend(query_QSD, len(query_QSD) * len(gallery_GSD) * query_QSD.shape[1] ** 2)
    if way in ("native", "int8"):
        return matching.maxima(query_QSD, gallery_GSD, weight_SS, "int8" if way == "int8" else "bfloat16")
    if way == "triton":
        from reid.kernels.simmax import _triton  # noqa: PLC0415 - importing triton takes as long as all the rest

        return _triton.maxima(query_QSD, gallery_GSD, weight_SS)
    if weight_SS is not None and not query_QSD.is_cuda:
        weight_SS = weight_SS.to(query_QSD.dtype)
    reduce = compiled_weigh_and_reduce if way == "compiled" else weigh_and_reduce
    return search(query_QSD, gallery_GSD, weight_SS, reduce)


def _prepare(
    query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None, *, with_grad: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Bring both features to the precision of the product, and the weight to that of the result."""
    dtype = torch.promote_types(query_QSD.dtype, gallery_GSD.dtype)
    dtype = multiplied_dtype(query_QSD.device, dtype, with_grad=with_grad)
    same = gallery_GSD is query_QSD  # and stays so: a batch against itself needs each map once
    query_QSD = query_QSD.to(dtype)
    gallery_GSD = query_QSD if same else gallery_GSD.to(dtype)
    return query_QSD, gallery_GSD, None if weight_SS is None else weight_SS.to(result_dtype(query_QSD))


def _check_shapes(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None) -> None:
    shapes = [tuple(tensor.shape) for tensor in (query_QSD, gallery_GSD, weight_SS) if tensor is not None]
    fits = query_QSD.ndim == gallery_GSD.ndim == 3 and shapes[0][1:] == shapes[1][1:] and min(shapes[0][1:]) > 0
    if not fits or (weight_SS is not None and shapes[2] != (shapes[0][1],) * 2):
        raise ShapeError(
            "similarity maxima: wanted query [Q, S, D], gallery [G, S, D] and weight [S, S] or none, with the same S "
            f"and D of at least 1, found {', '.join(map(str, shapes))}. Were both encoded by the same matcher?"
        )
