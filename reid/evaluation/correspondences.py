"""Reading correspondences at any positions: the true ones, and those that a matcher has found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree
from torch import Tensor

from reid.errors import ShapeError
from reid.types import Correspondences, Warp

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

TEAR_PX = 4.0
"""Neighbouring pixels that lie further apart in the other image are on different things, with no truth between them."""
_ROUNDING_PX = 1e-3
_CORNERS_42 = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])


@dataclass(frozen=True, slots=True, eq=False)
class Spots:
    """The truth about M positions of one image.

    Attributes:
        position_M2: where in the other image, (x, y) in pixels, [M, 2]; without meaning where nothing is visible.
        visible_M: whether it can be seen there, [M].
        known_M: whether ``visible_M`` tells the truth, [M].
    """

    position_M2: Floats
    visible_M: Bools
    known_M: Bools

    @property
    def seen_M(self) -> Bools:  # noqa: N802 - a shape suffix
        """Whether it is known to be visible."""
        return self.visible_M & self.known_M


def truth_at(truth: Warp, pair: int, at_M2: Floats) -> Spots:
    """Read the truth about one pair at any positions: bilinear between the centres of pixels.

    The truth between pixels is known where it is known at all of them, they agree about being visible, and they lie
    within :data:`TEAR_PX` of each other; at the centre of a pixel it is that pixel's alone.

    Args:
        truth: of N pairs.
        pair: which of them.
        at_M2: (x, y) in pixels, [M, 2].

    Raises:
        ShapeError: a position lies outside the image.
    """
    height, width = truth.visible_NHW.shape[1:]
    if not ((at_M2 >= 0) & (at_M2 <= (width, height))).all():
        raise ShapeError(
            f"correspondences: wanted positions within the {width} x {height} pixels of the truth, found "
            f"{at_M2.min(0).round(1).tolist()} to {at_M2.max(0).round(1).tolist()}. Were they found at another size?"
        )
    position_HW2, visible_HW, known_HW = (
        field_NHW[pair].cpu().numpy() for field_NHW in (truth.position_NHW2, truth.visible_NHW, truth.known_NHW)
    )
    low_M2 = np.floor(at_M2 - 0.5)
    share_M2 = at_M2 - 0.5 - low_M2
    place_M2, total_M = np.zeros_like(at_M2), np.zeros(len(at_M2))
    least_M2, most_M2 = np.full_like(at_M2, np.inf), np.full_like(at_M2, -np.inf)
    visible_M, hidden_M, known_M = (np.ones(len(at_M2), dtype=bool) for _ in range(3))
    for corner_2 in _CORNERS_42:
        weight_M = np.where(corner_2, share_M2, 1 - share_M2).prod(1)
        idx_K = np.flatnonzero(weight_M > _ROUNDING_PX)
        x_K, y_K = (low_M2[idx_K] + corner_2).clip(0, (width - 1, height - 1)).astype(np.int64).T
        corner_K2, seen_K = position_HW2[y_K, x_K], visible_HW[y_K, x_K]
        place_M2[idx_K] += weight_M[idx_K, None] * corner_K2
        total_M[idx_K] += weight_M[idx_K]
        least_M2[idx_K] = np.minimum(least_M2[idx_K], corner_K2)
        most_M2[idx_K] = np.maximum(most_M2[idx_K], corner_K2)
        visible_M[idx_K] &= seen_K
        hidden_M[idx_K] &= ~seen_K
        known_M[idx_K] &= known_HW[y_K, x_K]
    torn_M = visible_M & ((most_M2 - least_M2).max(1) > TEAR_PX)
    return Spots(place_M2 / total_M[:, None], visible_M, known_M & (visible_M | hidden_M) & ~torn_M)


def found_at(found: Correspondences, at_M2: Floats, *, reach_px: float = np.inf) -> tuple[Floats, Floats]:
    """Where correspondences say that any positions of the query image lie, so that methods can be asked the same.

    A position moves by as much as the nearest query position does, or the mean of up to four that are equally near. A
    warp on a grid is read bilinearly instead; beyond its outermost centres the displacement stays what it is there.

    Args:
        found: correspondences of one pair, any number.
        at_M2: (x, y) in pixels of the query image, [M, 2].
        reach_px: how far the nearest query position may lie.

    Returns:
        gallery_M2: (x, y) in pixels of the gallery image, [M, 2]; NaN where nothing is within reach.
        confidence_M: [M]; minus infinity there.
    """
    num = min(4, len(found.query_N2))
    if not num:
        return np.full(at_M2.shape, np.nan), np.full(len(at_M2), -np.inf)
    query_N2, gallery_N2, confidence_N = map(as_array, (found.query_N2, found.gallery_N2, found.confidence_N))
    told_N3 = np.column_stack((gallery_N2 - query_N2, confidence_N))
    told_M3 = _bilinear(query_N2, told_N3, at_M2) if found.kind == "warp" else None
    if told_M3 is None or np.isfinite(reach_px):
        distance_MK, nearest_MK = map(np.asarray, KDTree(query_N2).query(at_M2, k=range(1, num + 1)))
    if told_M3 is None:
        near_MK = distance_MK <= distance_MK[:, :1] + _ROUNDING_PX
        told_M3 = (near_MK[..., None] * told_N3[nearest_MK]).sum(1) / near_MK.sum(1, keepdims=True)
    if np.isfinite(reach_px):
        told_M3[distance_MK[:, 0] > reach_px] = np.nan, np.nan, -np.inf
    return at_M2 + told_M3[:, :2], told_M3[:, 2]


def _bilinear(query_N2: Floats, told_N3: Floats, at_M2: Floats) -> Floats | None:
    """What a grid of rows and columns tells at any positions; None where the query positions are no grid."""
    (x_W, column_N), (y_H, row_N) = (np.unique(axis_N, return_inverse=True) for axis_N in query_N2.T)
    if len(x_W) * len(y_H) != len(query_N2):
        return None
    told_HW3 = np.full((len(y_H), len(x_W), 3), np.nan)
    told_HW3[row_N, column_N] = told_N3
    if np.isnan(told_HW3).any():  # as many, but some twice
        return None
    place_2M = np.interp(at_M2[:, 1], y_H, np.arange(len(y_H))), np.interp(at_M2[:, 0], x_W, np.arange(len(x_W)))
    told_3M = [map_coordinates(told_HW, place_2M, order=1, mode="nearest") for told_HW in told_HW3.transpose(2, 0, 1)]
    return np.stack(told_3M, axis=1)


def as_array(tensor_X: Tensor) -> Floats:
    """A tensor of any device and type as float64."""
    return tensor_X.detach().cpu().double().numpy()
