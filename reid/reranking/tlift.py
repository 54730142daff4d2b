"""TLift: people who pass one camera together are looked for together at the others.

The best matches of a query and of those who passed with it say *when* they all were at another camera; what else was
seen there at that time is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.sparse import csr_array

from reid.errors import ShapeError
from reid.progress import Progress, Silent
from reid.reranking._arrays import Floats, blocks, score_array
from reid.reranking._base import Found, Reranker, RerankerConfig
from reid.reranking._pivots import by_camera, permuted, pivots
from reid.reranking._sightings import Sightings
from reid.types import ImageRecord

_CLOSENESS_BYTES = 2**23  # at a time: it is written once and read for every query, so that caches should hold it
_LEAST_EXPONENT = -80.0  # exp(-80) = 2e-35 is nothing beside alpha; numbers near float32's end slow a product down


class Config(RerankerConfig):
    """The defaults are the paper's."""

    name: Literal["tlift"] = "tlift"
    tau_s: PositiveFloat = Field(100.0, description="seconds within which two queries of one camera passed together")
    sigma_s: PositiveFloat = Field(200.0, description="seconds over which closeness in time falls to 1/e")
    num_pivots: PositiveInt = Field(10, description="best matches at a camera that tell when they were there (K)")
    alpha: NonNegativeFloat = Field(0.2, description="share of the score that needs no closeness in time")


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
    cameras = by_camera(gallery)
    pivot_QG = pivots(score_QG, query, cameras, num=how.num_pivots, tau_s=how.tau_s)
    scaled_G = gallery.time_s_N[cameras.order_G] / how.sigma_s
    with (progress or Silent()).bar("tlift", len(gallery), "image") as bar:
        for part in cameras.parts:
            _closeness(pivot_QG[:, part].tocsr().astype(dtype), scaled_G[part], lifted_QG[:, part])
            bar.advance(part.stop - part.start)
    for start, stop, lifted_BG in permuted(lifted_QG, np.argsort(cameras.order_G)):
        np.add(lifted_BG, dtype(how.alpha), out=lifted_BG)
        np.multiply(lifted_BG, score_QG[start:stop], out=lifted_QG[start:stop])
    return lifted_QG


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


class TLift(Reranker):
    """See :func:`tlift`.

    Source: Liao and Shao, Interpretable and Generalizable Person Re-Identification with Query-Adaptive Convolution and
    Temporal Lifting, ECCV 2020.
    """

    def __init__(self, config: Config) -> None:
        self.config: Config = config

    def refuse_images(self, query: Sequence[ImageRecord], gallery: Sequence[ImageRecord]) -> None:
        """See :meth:`Reranker.refuse_images`."""
        for records in (query, gallery):
            Sightings.of(records)

    def __call__(self, found: Found, out: NDArray[np.float32], progress: Progress) -> Found:
        """See :meth:`Reranker.__call__`."""
        query, gallery = Sightings.of(found.query), Sightings.of(found.gallery)
        tlift(found.positive(), query, gallery=gallery, how=self.config, out=out, progress=progress)
        return replace(found, score_QG=out, scale="positive")


COMPONENT = TLift
