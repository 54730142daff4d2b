"""Pivots of TLift: the best matches of a query, and of those who passed with it, at every camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array

from reid.errors import ShapeError
from reid.reranking._arrays import Floats, blocks
from reid.reranking._sightings import Sightings

SCORE_BYTES = 2**22
"""Scores that are looked at together; caches should hold them."""


@dataclass(frozen=True, slots=True, eq=False)
class Cameras:
    """The gallery camera by camera: ``order_G[part]`` are the images of a camera, for each of ``parts``."""

    order_G: NDArray[np.int64]
    parts: tuple[slice, ...]


def by_camera(gallery: Sightings) -> Cameras:
    """Sort images by camera; those of one camera keep their order."""
    order_G = np.argsort(gallery.camid_N, kind="stable")
    ends = np.cumsum(np.unique(gallery.camid_N, return_counts=True)[1]).tolist()
    return Cameras(order_G, tuple(slice(*ends) for ends in pairwise([0, *ends])))


def permuted(value_QG: Floats, order_G: NDArray[np.int64]) -> Iterator[tuple[int, int, Floats]]:
    """Rows with their columns in another order, a block at a time.

    Yields:
        (start, stop, those rows); they are overwritten by the next.
    """
    parts = list(blocks(len(value_QG), value_QG.itemsize * len(order_G), SCORE_BYTES))
    buffer_BG = np.empty((parts[0][1], len(order_G)), dtype=value_QG.dtype)  # made once: fresh memory would cost more
    for start, stop in parts:
        rows_BG = buffer_BG[: stop - start]
        yield start, stop, np.take(value_QG[start:stop], order_G, axis=1, out=rows_BG, mode="clip")


def pivots(score_QG: Floats, query: Sightings, cameras: Cameras, *, num: int, tau_s: float) -> csc_array:
    """How much each gallery image counts as a query's pivot: 1 in all for each query and camera.

    Args:
        score_QG: [Q, G], finite, at least 0.
        query: where and when the query images were taken.
        cameras: of the gallery images.
        num: best matches at a camera that are pivots (K); those that tie with the last are too.
        tau_s: seconds within which two queries of one camera passed together, and share their pivots.

    Returns:
        pivot_QG: [Q, G], columns camera by camera, in the order of ``cameras``.

    Raises:
        ShapeError: a score is negative or not finite.
    """
    best = _best(score_QG, cameras, num)
    found, shares = [], []
    for idx in range(len(query)):
        near_R = np.flatnonzero(
            (query.camid_N == query.camid_N[idx]) & (np.abs(query.time_s_N - query.time_s_N[idx]) < tau_s)
        )
        pivot_P, camera_P = _pivots_of(best, score_QG, near_R, cameras)
        found.append(pivot_P)
        shares.append(1 / np.bincount(camera_P)[camera_P])
    row_P = np.repeat(np.arange(len(query)), [len(pivot_P) for pivot_P in found])
    return csc_array((np.concatenate(shares), (row_P, np.concatenate(found))), shape=score_QG.shape)


@dataclass(frozen=True, slots=True, eq=False)
class _Best:
    """The K best scores of each query at each camera; -inf where there are fewer images.

    ``tied_QC``: another image of that camera scores like the last of them.
    """

    value_QCK: Floats
    idx_QCK: NDArray[np.int64]
    tied_QC: NDArray[np.bool_]


def _best(score_QG: Floats, cameras: Cameras, k: int) -> _Best:
    shape = (len(score_QG), len(cameras.parts), k)
    best = _Best(
        np.full(shape, -np.inf, dtype=score_QG.dtype), np.zeros(shape, dtype=np.int64), np.zeros(shape[:2], dtype=bool)
    )
    for start, stop, score_BG in permuted(score_QG, cameras.order_G):
        _check(score_BG)
        for camera, part in enumerate(cameras.parts):
            score_BM = torch.from_numpy(score_BG[:, part])
            num = min(k, score_BM.shape[1])
            found = score_BM.topk(min(num + 1, score_BM.shape[1]), dim=1)
            best.value_QCK[start:stop, camera, :num] = found.values[:, :num].numpy()
            best.idx_QCK[start:stop, camera, :num] = found.indices[:, :num].numpy() + part.start
            best.tied_QC[start:stop, camera] = (found.values[:, num - 1 : num] == found.values[:, num:]).any(1).numpy()
    return best


def _pivots_of(
    best: _Best, score_QG: Floats, near_R: NDArray[np.int64], cameras: Cameras
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Gallery images, by camera, that any of the queries ``near_R`` scores as high as their K-th best; their cameras.

    An image stands there once for every such query.
    """
    value_RCK = best.value_QCK[near_R]
    num_cameras, k = value_RCK.shape[1:]
    value_CN = value_RCK.transpose(1, 0, 2).reshape(num_cameras, -1)
    threshold_C = np.partition(value_CN, value_CN.shape[1] - k, axis=1)[:, -k]
    at = np.nonzero((value_RCK >= threshold_C[:, None]) & (value_RCK > -np.inf))
    pivot_P, camera_P = best.idx_QCK[near_R[at[0]], at[1], at[2]], at[1]
    unsure_C = (best.tied_QC[near_R] & (value_RCK[:, :, -1] == threshold_C)).any(0)
    for camera in np.flatnonzero(unsure_C).tolist():
        part, others_P = cameras.parts[camera], camera_P != camera
        score_RM = score_QG[np.ix_(near_R, cameras.order_G[part])]
        reached = np.nonzero(score_RM >= threshold_C[camera])[1] + part.start
        pivot_P = np.concatenate([pivot_P[others_P], reached])
        camera_P = np.concatenate([camera_P[others_P], np.full(len(reached), camera)])
    return pivot_P, camera_P


def _check(score_BG: Floats) -> None:
    low, high = float(score_BG.min()), float(score_BG.max())
    if not (low >= 0 and np.isfinite(high)):
        raise ShapeError(
            f"tlift: wanted finite scores of at least 0, found values from {low:.4g} to {high:.4g}. Make them positive "
            "without changing their order, such as 1 - distance."
        )
