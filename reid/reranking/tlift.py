"""TLift: people who pass one camera together are looked for together at the others.

The best matches of a query and of those who passed with it say *when* they all were at another camera; what else was
seen there at that time is raised.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.sparse import csc_array, csr_array

from reid.errors import DatasetError, ShapeError
from reid.progress import Progress, Silent
from reid.reranking._base import Found, Reranker, RerankerConfig
from reid.reranking._neighbours import Floats, blocks, score_array
from reid.types import ImageRecord

_CLOSENESS_BYTES = 2**23  # at a time: it is written once and read for every query, so that caches should hold it
_SCORE_BYTES = 2**22  # at a time, for the same reason
_LEAST_EXPONENT = -80.0  # exp(-80) = 2e-35 is nothing beside alpha; numbers near float32's end slow a product down


class Config(RerankerConfig):
    """The defaults are the paper's."""

    name: Literal["tlift"] = "tlift"
    tau_s: PositiveFloat = Field(100.0, description="seconds within which two queries of one camera passed together")
    sigma_s: PositiveFloat = Field(200.0, description="seconds over which closeness in time falls to 1/e")
    num_pivots: PositiveInt = Field(10, description="best matches at a camera that tell when they were there (K)")
    alpha: NonNegativeFloat = Field(0.2, description="share of the score that needs no closeness in time")


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """Where and when N images were taken.

    Attributes:
        camid_N: camera, [N], integers from 0.
        time_s_N: seconds on a clock common to all cameras, [N].

    Raises:
        ShapeError: there are no images, or not as many cameras as times.
        DatasetError: a camera or a time is missing (negative, not finite).
    """

    camid_N: NDArray[np.integer]
    time_s_N: Floats

    def __post_init__(self) -> None:
        if self.camid_N.ndim != 1 or self.camid_N.shape != self.time_s_N.shape or not len(self.camid_N):
            raise ShapeError(
                f"tlift: wanted one camera and one time for each image, found {list(self.camid_N.shape)} and "
                f"{list(self.time_s_N.shape)}. Take both from the same records."
            )
        for what, missing_N in (("camera", self.camid_N < 0), ("time", ~np.isfinite(self.time_s_N))):
            if missing_N.any():
                raise _missing(what, f"image {int(np.argmax(missing_N))}", int(missing_N.sum()), len(missing_N))

    @classmethod
    def of(cls, records: Sequence[ImageRecord]) -> Self:
        """Take them out of image records. Raises DatasetError if a record has no camera or no time."""
        for what, values in (
            ("camera", [record.camid for record in records]),
            ("time", [record.time_s for record in records]),
        ):
            if None in values:
                raise _missing(what, str(records[values.index(None)].path), values.count(None), len(values))
        return cls(
            np.array([record.camid for record in records], dtype=np.int64),
            np.array([record.time_s for record in records], dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.camid_N)


def tlift(
    score_QG: Floats,
    query: Sightings,
    *,
    gallery: Sightings,
    how: Config | None = None,
    out: Floats | None = None,
    progress: Progress | None = None,
) -> Floats:
    """Raise the scores of gallery images that were taken when a query and those around it were there.

    Args:
        score_QG: [Q, G], finite, at least 0, higher = more alike; the authors take 1 - distance. May be a memory map.
        query: where and when the query images were taken.
        gallery: the same of the gallery images.
        how: the options; None: the defaults.
        out: where scores go, [Q, G], of the dtype that is returned; not ``score_QG`` itself. None: a new array.
        progress: where images/s and the time left are shown.

    Returns:
        score_QG: ``(closeness + alpha) * score``, [Q, G], at least 0, float64 if the scores are, else float32. Where a
            camera has no gallery image there is nothing to be raised.

    Raises:
        ShapeError: shapes do not fit, a score is negative or not finite, or ``out`` is no such array.

    Source: Liao and Shao, Interpretable and Generalizable Person Re-Identification with Query-Adaptive Convolution and
    Temporal Lifting, ECCV 2020. Scores that tie with the K-th best make pivots too.
    """
    how = how or Config()
    if tuple(score_QG.shape) != (len(query), len(gallery)):
        raise ShapeError(
            f"tlift: wanted scores [Q, G] = [{len(query)}, {len(gallery)}], found {list(score_QG.shape)}. Hand in the "
            "cameras and times of the images that were scored."
        )
    dtype: type[np.floating[Any]] = np.float64 if score_QG.dtype == np.float64 else np.float32
    lifted_QG = score_array("tlift", (len(query), len(gallery)), out, dtype)
    if np.may_share_memory(lifted_QG, score_QG):
        raise ShapeError("tlift: wanted another array for the result than the scores', found the same. Hand in none.")
    cameras = _by_camera(gallery)
    pivot_QG = _pivots(_best(score_QG, cameras, how.num_pivots), score_QG, query, cameras, how.tau_s)
    scaled_G = gallery.time_s_N[cameras.order_G] / how.sigma_s
    with (progress or Silent()).bar("tlift", len(gallery), "image") as bar:
        for part in cameras.parts:
            _closeness(pivot_QG[:, part].tocsr().astype(dtype), scaled_G[part], lifted_QG[:, part])
            bar.advance(part.stop - part.start)
    for start, stop, lifted_BG in _permuted(lifted_QG, np.argsort(cameras.order_G)):
        np.add(lifted_BG, dtype(how.alpha), out=lifted_BG)
        np.multiply(lifted_BG, score_QG[start:stop], out=lifted_QG[start:stop])
    return lifted_QG


@dataclass(frozen=True, slots=True, eq=False)
class _Cameras:
    """The gallery camera by camera: ``order_G[part]`` are the images of a camera, for each of ``parts``."""

    order_G: NDArray[np.int64]
    parts: tuple[slice, ...]


def _by_camera(gallery: Sightings) -> _Cameras:
    order_G = np.argsort(gallery.camid_N, kind="stable")
    ends = np.cumsum(np.unique(gallery.camid_N, return_counts=True)[1]).tolist()
    return _Cameras(order_G, tuple(slice(*ends) for ends in pairwise([0, *ends])))


def _permuted(value_QG: Floats, order_G: NDArray[np.int64]) -> Iterator[tuple[int, int, Floats]]:
    """(start, stop, those rows with columns in another order); the rows are overwritten by the next."""
    parts = list(blocks(len(value_QG), value_QG.itemsize * len(order_G), _SCORE_BYTES))
    buffer_BG = np.empty((parts[0][1], len(order_G)), dtype=value_QG.dtype)  # made once, as below
    for start, stop in parts:
        rows_BG = buffer_BG[: stop - start]
        yield start, stop, np.take(value_QG[start:stop], order_G, axis=1, out=rows_BG, mode="clip")


def _closeness(share_QM: csr_array, scaled_M: Floats, out_QM: Floats) -> None:
    """Mean closeness in time of a camera's images to the pivots of each query there.

    Args:
        share_QM: 1 / number of pivots where an image is one; more where it is one several times.
        scaled_M: times in units of sigma.
        out_QM: where it goes.
    """
    parts = list(blocks(len(scaled_M), 8 * len(scaled_M), _CLOSENESS_BYTES))
    exponent_MB = np.empty((len(scaled_M), parts[0][1]))  # made once: fresh memory costs more than the arithmetic
    for start, stop in parts:
        exponent_MP = exponent_MB[:, : stop - start]
        np.subtract.outer(scaled_M, scaled_M[start:stop], out=exponent_MP)
        np.negative(np.square(exponent_MP, out=exponent_MP), out=exponent_MP)
        np.maximum(exponent_MP, _LEAST_EXPONENT, out=exponent_MP)
        out_QM[:, start:stop] = share_QM @ np.exp(exponent_MP, dtype=out_QM.dtype, casting="same_kind")


@dataclass(frozen=True, slots=True, eq=False)
class _Best:
    """The K best scores of each query at each camera; -inf where there are fewer images.

    ``tied_QC``: another image of that camera scores like the last of them.
    """

    value_QCK: Floats
    idx_QCK: NDArray[np.int64]
    tied_QC: NDArray[np.bool_]


def _best(score_QG: Floats, cameras: _Cameras, k: int) -> _Best:
    shape = (len(score_QG), len(cameras.parts), k)
    best = _Best(
        np.full(shape, -np.inf, dtype=score_QG.dtype), np.zeros(shape, dtype=np.int64), np.zeros(shape[:2], dtype=bool)
    )
    for start, stop, score_BG in _permuted(score_QG, cameras.order_G):
        _check(score_BG)
        for camera, part in enumerate(cameras.parts):
            score_BM = torch.from_numpy(score_BG[:, part])
            num = min(k, score_BM.shape[1])
            found = score_BM.topk(min(num + 1, score_BM.shape[1]), dim=1)
            best.value_QCK[start:stop, camera, :num] = found.values[:, :num].numpy()
            best.idx_QCK[start:stop, camera, :num] = found.indices[:, :num].numpy() + part.start
            best.tied_QC[start:stop, camera] = (found.values[:, num - 1 : num] == found.values[:, num:]).any(1).numpy()
    return best


def _pivots(best: _Best, score_QG: Floats, query: Sightings, cameras: _Cameras, tau_s: float) -> csc_array:
    """How much each gallery image, by camera, counts as a query's pivot: 1 in all for each query and camera. [Q, G]."""
    pivots, shares = [], []
    for idx in range(len(query)):
        near_R = np.flatnonzero(
            (query.camid_N == query.camid_N[idx]) & (np.abs(query.time_s_N - query.time_s_N[idx]) < tau_s)
        )
        pivot_P, camera_P = _pivots_of(best, score_QG, near_R, cameras)
        pivots.append(pivot_P)
        shares.append(1 / np.bincount(camera_P)[camera_P])
    row_P = np.repeat(np.arange(len(query)), [len(pivot_P) for pivot_P in pivots])
    return csc_array((np.concatenate(shares), (row_P, np.concatenate(pivots))), shape=score_QG.shape)


def _pivots_of(
    best: _Best, score_QG: Floats, near_R: NDArray[np.int64], cameras: _Cameras
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


def _missing(what: str, first: str, num: int, total: int) -> DatasetError:
    return DatasetError(
        f"{first}: wanted the {what} of every image for TLift, found none for {num} of {total} images. Use a data set "
        "that tells camera and time of every image, or another re-ranking."
    )


class TLift(Reranker):
    """See :func:`tlift`.

    Source: Liao and Shao, Interpretable and Generalizable Person Re-Identification with Query-Adaptive Convolution and
    Temporal Lifting, ECCV 2020.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def __call__(self, found: Found, out: NDArray[np.float32], progress: Progress) -> Found:
        """See :meth:`Reranker.__call__`."""
        query, gallery = Sightings.of(found.query), Sightings.of(found.gallery)
        tlift(found.positive(), query, gallery=gallery, how=self.config, out=out, progress=progress)
        return replace(found, score_QG=out, scale="positive")


COMPONENT = TLift
