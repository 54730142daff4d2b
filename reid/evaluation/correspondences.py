"""Reading correspondences at any positions: the true ones, and those that a matcher has found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree
from torch import Tensor

from reid.errors import ShapeError
from reid.nn.truth import truth_at as truth_of_pairs
from reid.types import Correspondences, Warp

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_ROUNDING_PX = 1e-3


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
    """Read the truth about one pair at any positions, by :func:`reid.nn.truth.truth_at`.

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
    spots = truth_of_pairs(truth[pair : pair + 1].to("cpu"), torch.from_numpy(at_M2)[None])
    return Spots(spots.position_NK2[0].numpy(), spots.visible_NK[0].numpy(), spots.known_NK[0].numpy())


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
