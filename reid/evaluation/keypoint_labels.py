"""Which keypoints of two images are each other's true partners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor

from reid.errors import ShapeError
from reid.evaluation.correspondences import Floats, as_array, truth_at
from reid.types import Warps

Ints = NDArray[np.int64]

UNMATCHED, IGNORED = -1, -2


@dataclass(frozen=True, slots=True, eq=False)
class KeypointLabels:
    """The truth about the keypoints of one pair.

    Attributes:
        query_K: index of each query keypoint's true partner, or :data:`UNMATCHED`, or :data:`IGNORED`, [K].
        gallery_L: the same of each gallery keypoint, [L].
    """

    query_K: Ints
    gallery_L: Ints


def keypoint_labels(
    query_K2: Tensor, gallery_L2: Tensor, truth: Warps, pair: int, *, positive_px: float, negative_px: float
) -> KeypointLabels:
    """Which keypoints of one pair match, which have no partner, and about which nothing can be said.

    The distance of two keypoints is the larger one of: the query keypoint, moved into the gallery image, to the gallery
    keypoint; and the other way round. It is infinite where either is not known to be visible in the other image.
    Two keypoints match if each is the other's nearest by this distance and it is below ``positive_px``. A keypoint is
    unmatched if it is known to be hidden, or if, moved into the other image, it has no keypoint there within
    ``negative_px``. All others are ignored: between the thresholds, without mutual nearest, or not known.

    Args:
        query_K2: (x, y) in pixels of the query's keypoints, [K, 2].
        gallery_L2: of the gallery image's, [L, 2].
        truth: of several pairs.
        pair: which of them.
        positive_px: pixels; 0.71 of the stride for a grid, that is a cell's half diagonal; 3 for salient points.
        negative_px: pixels, not below ``positive_px``; the stride of a grid.

    Raises:
        ShapeError: the thresholds are not in order, or a keypoint lies outside the image.

    Source: Sarlin et al., SuperGlue, CVPR 2020, Appendix E (minimal along row and column, and a threshold; ignored
    between thresholds), with the distance of both ways as in glue-factory (Lindenberger et al., LightGlue, ICCV 2023).
    Thresholds of a few pixels are theirs; on a grid hardly any cell would match, hence multiples of its stride.
    """
    if not 0 < positive_px <= negative_px:
        raise ShapeError(
            f"keypoint_labels: wanted 0 < positive_px <= negative_px, found {positive_px:g} and {negative_px:g}."
        )
    query, gallery = as_array(query_K2), as_array(gallery_L2)
    there, back = truth_at(truth.to_gallery, pair, query), truth_at(truth.to_query, pair, gallery)
    forward_KL = np.where(there.seen_M[:, None], cdist(there.position_M2, gallery), np.inf)
    backward_KL = np.where(back.seen_M, cdist(query, back.position_M2), np.inf)
    positive_KL = _mutual_minima(np.maximum(forward_KL, backward_KL), positive_px)
    far_K = forward_KL.min(1, initial=np.inf) > negative_px
    far_L = backward_KL.min(0, initial=np.inf) > negative_px
    query_K = np.where(far_K & there.known_M, UNMATCHED, IGNORED)
    gallery_L = np.where(far_L & back.known_M, UNMATCHED, IGNORED)
    query_idx_M, gallery_idx_M = np.nonzero(positive_KL)
    query_K[query_idx_M], gallery_L[gallery_idx_M] = gallery_idx_M, query_idx_M
    return KeypointLabels(query_K, gallery_L)


def _mutual_minima(distance_KL: Floats, below_px: float) -> NDArray[np.bool_]:
    """Where a distance is the least of its row and of its column, and below a threshold; the first of equals."""
    minimal_KL = np.zeros(distance_KL.shape, dtype=bool)
    if distance_KL.size:
        row_K, row_L = np.arange(len(distance_KL)), distance_KL.argmin(0)
        column_K = distance_KL.argmin(1)
        minimal_KL[row_K, column_K] = (row_L[column_K] == row_K) & (distance_KL[row_K, column_K] < below_px)
    return minimal_KL
