"""Maxima by PyTorch's own operations: maps exist for one block of pairs at a time, in buffers that are reused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain, pairwise

import torch
from torch import Tensor

BLOCK_BYTES = {"cpu": 2**21, "cuda": 2**27}
"""Bytes of maps that exist at a time: near the caches of a CPU core, and enough to fill a GPU."""

_MIRRORED_PARTS = 8
"""A batch against itself is cut into as many parts at least; about 9 of 16 maps are computed then."""

Reduce = Callable[[Tensor, Tensor | None, Tensor, Tensor], None]
"""Maps [q, g, S, S], a weight, and where the maxima over gallery (axis 2) and over query positions go.

The places may hold fewer images than the maps: only the first are wanted.
"""


def result_dtype(features: Tensor) -> torch.dtype:
    """Of maxima: at least float32."""
    return torch.promote_types(features.dtype, torch.float32)


def search(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None, reduce: Reduce) -> Tensor:
    """Maxima of all pairs, [2, Q, G, S]: over gallery positions, then over query positions."""
    shape = (2, len(query_QSD), len(gallery_GSD), query_QSD.shape[1])
    maxima = query_QSD.new_empty(shape, dtype=result_dtype(query_QSD))
    for block, map_qgSS in _map_blocks(query_QSD, gallery_GSD):
        reduce(map_qgSS, weight_SS, maxima[0][block], maxima[1][block])
    return maxima


def weigh_and_reduce(map_qgSS: Tensor, weight_SS: Tensor | None, over_gallery: Tensor, over_query: Tensor) -> None:
    """The plain :data:`Reduce`; it spoils maps of the weight's precision."""
    num_q, num_g, _ = over_gallery.shape
    weighted_qgSS = _weighted(map_qgSS[:num_q, :num_g], weight_SS)
    for axis, place in ((2, over_gallery), (3, over_query)):
        if place.dtype == weighted_qgSS.dtype:
            torch.amax(weighted_qgSS, axis, out=place)
        else:
            place.copy_(weighted_qgSS.amax(axis))


def compiled_weigh_and_reduce(
    map_qgSS: Tensor, weight_SS: Tensor | None, over_gallery: Tensor, over_query: Tensor
) -> None:
    """The same in one pass over the maps, always over all of them: another size would be compiled anew."""
    num_q, num_g, _ = over_gallery.shape
    for place, found in zip((over_gallery, over_query), _compiled()(map_qgSS, weight_SS), strict=True):
        place.copy_(found[:num_q, :num_g])


@cache
def _compiled() -> Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]:
    """Compiled on its first call.

    It returns what it computes: views of one buffer that are written to, on later calls at another offset, come out
    wrong from torch.compile on the CPU (torch 2.13).
    """

    def maxima(map_qgSS: Tensor, weight_SS: Tensor | None) -> tuple[Tensor, Tensor]:
        weighted_qgSS = map_qgSS if weight_SS is None else map_qgSS * weight_SS
        return weighted_qgSS.amax(2), weighted_qgSS.amax(3)

    return torch.compile(maxima, dynamic=False)


def search_positions(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None) -> tuple[Tensor, Tensor]:
    """Maxima of all pairs and where they are, int32, [2, Q, G, S] both.

    Of a batch against itself each map is computed once: that of (j, i) is the transpose of that of (i, j).
    """
    shape = (2, len(query_QSD), len(gallery_GSD), query_QSD.shape[1])
    maxima = query_QSD.new_empty(shape, dtype=result_dtype(query_QSD))
    position = torch.empty_like(maxima, dtype=torch.int32)
    mirrored = gallery_GSD is query_QSD
    for (query, gallery), map_qgSS in _map_blocks(query_QSD, gallery_GSD, mirrored=mirrored):
        if mirrored and query.stop <= gallery.start:
            weighted_qgSS = map_qgSS if weight_SS is None else map_qgSS * weight_SS.T
            for direction, axis in enumerate((3, 2)):
                found = weighted_qgSS[: query.stop - query.start, : gallery.stop - gallery.start].max(axis)
                maxima[direction, gallery, query] = found.values.transpose(0, 1)
                position[direction, gallery, query] = found.indices.transpose(0, 1)
        weighted_qgSS = _weighted(map_qgSS, weight_SS)
        for direction, axis in enumerate((2, 3)):
            found = weighted_qgSS[: query.stop - query.start, : gallery.stop - gallery.start].max(axis)
            maxima[direction, query, gallery], position[direction, query, gallery] = found
    return maxima, position


def _weighted(map_qgSS: Tensor, weight_SS: Tensor | None) -> Tensor:
    """In place where the precision allows it."""
    if weight_SS is None:
        return map_qgSS
    return map_qgSS.mul_(weight_SS) if map_qgSS.dtype == weight_SS.dtype else map_qgSS * weight_SS


def _map_blocks(
    query_QSD: Tensor, gallery_GSD: Tensor, *, mirrored: bool = False
) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
    """Blocks of (query images, gallery images) with their maps [q, g, S, S].

    The maps live in one buffer that the next block overwrites: fresh large tensors cost more than the product. The
    buffer always comes whole; of the last block in a row or column only the first maps are of the block.

    ``mirrored`` leaves out blocks whose query images all come after their gallery images, and cuts the others so that
    each is either the mirror image of such blocks or has the same gallery images on its query side.
    """
    (num_query, num_positions, dim), num_gallery = query_QSD.shape, len(gallery_GSD)
    room = BLOCK_BYTES.get(query_QSD.device.type, BLOCK_BYTES["cpu"])
    pairs = max(1, room // (query_QSD.dtype.itemsize * num_positions**2))
    block_g = max(1, min(-(-num_gallery // _MIRRORED_PARTS) if mirrored else num_gallery, pairs))
    block_q = max(1, min(num_query, pairs // block_g))
    map_qgSS = query_QSD.new_zeros(block_q, block_g, num_positions, num_positions)
    for gallery in _slices(0, num_gallery, block_g):
        gallery_XD = gallery_GSD[gallery].reshape(-1, dim)  # a copy where images lie apart: once a block
        edges = (0, gallery.start, gallery.stop) if mirrored else (0, num_query)
        for query in chain.from_iterable(_slices(first, last, block_q) for first, last in pairwise(edges)):
            query_qDS = query_QSD[query].transpose(1, 2)
            product_qXS = map_qgSS.flatten(1, 2)[: len(query_qDS), : len(gallery_XD)]
            if len(query_qDS) == 1:
                torch.mm(gallery_XD, query_qDS[0], out=product_qXS[0])  # faster than a batch of one
            else:
                torch.bmm(gallery_XD.expand(len(query_qDS), -1, -1), query_qDS, out=product_qXS)
            yield (query, gallery), map_qgSS


def _slices(start: int, stop: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, stop)) for first in range(start, stop, size)]
