"""Shared ground of the matchers that compare all positions of two feature maps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from reid.errors import ShapeError
from reid.matchers._base import TEMPORARY_BYTES, Matcher
from reid.types import Correspondences, ImageState


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


class AllPairsMatcher(Matcher):
    """A matcher that compares two images by the maxima between all their positions, in both directions.

    Attributes:
        field_shape: of the state's one field, without the image dimension; the last two are S, D.
    """

    field_shape: tuple[int, ...]

    @abstractmethod
    def score_block(self, query: ImageState, gallery: ImageState) -> Tensor:
        """Compare all pairs at once, [Q, G]."""

    def score(self, query: ImageState, gallery: ImageState) -> Tensor:
        """See :meth:`Matcher.score`.

        In training mode all pairs are one batch of the batch norms; else they come in blocks whose temporaries stay
        within :data:`TEMPORARY_BYTES`.

        Raises:
            ShapeError: there is no query or no gallery image.
        """
        if len(query) == 0 or len(gallery) == 0:
            raise ShapeError(
                f"score: wanted query and gallery images, at least one each, found {len(query)} and {len(gallery)}."
            )
        if self.training:
            return self.score_block(query, gallery)
        num_positions, dim = self.field_shape[-2:]
        images = TEMPORARY_BYTES // (2 * 4 * num_positions * dim)  # of features in float32
        pairs = max(1, TEMPORARY_BYTES // (4 * 4 * num_positions))  # of maxima and what the head makes of them
        block_g = max(1, min(len(gallery), pairs, images))
        block_q = max(1, min(pairs // block_g, images))
        rows = [torch.cat([self.score_block(q, g) for g in gallery.split(block_g)], 1) for q in query.split(block_q)]
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
    return Correspondences(centre_S2, centre_S2[best.indices], best.values, "maximum")
