"""Shared ground of the matchers that compare all positions of two feature maps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reid.errors import ShapeError
from reid.types import Correspondences, ImageState

TEMPORARY_BYTES = 256 * 2**20
"""What one scored block may need beyond its inputs and outputs."""


def pair_in_chunks(
    score_pairs: Callable[[Tensor, Tensor], Tensor], query: Tensor, gallery: Tensor, *, size: int
) -> Tensor:
    """Score aligned pairs, [N], ``size`` at a time.

    Raises:
        ShapeError: there are not as many query as gallery images.
    """
    if len(query) != len(gallery):
        raise ShapeError(f"pairs: wanted as many query as gallery images, found {len(query)} and {len(gallery)}.")
    return torch.cat([score_pairs(q, g) for q, g in zip(query.split(size), gallery.split(size), strict=True)])


def score_in_blocks(
    score_block: Callable[[ImageState, ImageState], Tensor],
    query: ImageState,
    gallery: ImageState,
    *,
    bytes_per_pair: int,
    bytes_per_image: int,
) -> Tensor:
    """Score all pairs, [Q, G], in blocks whose temporaries stay within :data:`TEMPORARY_BYTES`.

    Args:
        score_block: scores a block of query images against a block of gallery images, [q, g].
        query: states of Q images.
        gallery: states of G images.
        bytes_per_pair: temporaries of one pair.
        bytes_per_image: temporaries of one image, such as its features in float32.
    """
    pairs = max(1, TEMPORARY_BYTES // bytes_per_pair)
    block_g = max(1, min(len(gallery), pairs, TEMPORARY_BYTES // (2 * bytes_per_image)))
    block_q = max(1, min(pairs // block_g, TEMPORARY_BYTES // (2 * bytes_per_image)))
    rows = [torch.cat([score_block(q, g) for g in gallery.split(block_g)], dim=1) for q in query.split(block_q)]
    return torch.cat(rows)


def best_positions(map_SS: Tensor, height: int, width: int, image_size: tuple[int, int]) -> Correspondences:
    """For each query position its best gallery position, in the order of query positions.

    Args:
        map_SS: similarity of one pair, [S, S], first index gallery, second query position.
        height: of the feature map.
        width: of the feature map; S = height * width, row by row.
        image_size: (height, width) of both images, pixels.

    Returns:
        S correspondences between the centres of the map's cells, x and y in pixels from the image's top left
        corner; the similarity is the confidence.
    """
    best = map_SS.float().max(0)
    cell = torch.arange(height * width, device=map_SS.device)
    x_S = (cell % width + 0.5) * (image_size[1] / width)
    y_S = (torch.div(cell, width, rounding_mode="floor") + 0.5) * (image_size[0] / height)
    centre_S2 = torch.stack((x_S, y_S), dim=1)
    return Correspondences(centre_S2, centre_S2[best.indices], best.values)
