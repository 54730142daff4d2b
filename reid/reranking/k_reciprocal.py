"""Re-ranking by k-reciprocal neighbours: two images are alike if the same images are close to both.

Every image is encoded by weights on the images that it and they name as neighbours of each other; the Jaccard distance
of two encodings is mixed with the distance they came from. Memory grows with N * k (N = Q + G images), time with N * N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from reid.errors import ConfigError
from reid.progress import Progress, Silent
from reid.reranking._arrays import BLOCK_BYTES, Floats, blocks, score_array
from reid.reranking._base import Found, Reranker, RerankerConfig
from reid.reranking._distances import Distances, EmbeddingDistances, MatrixDistances
from reid.reranking._neighbours import Neighbours, neighbours
from reid.reranking._sparse import Overlaps, Precision, encoded, expanded_sets, locally_expanded
from reid.types import ImageRecord

_COPIES = 4  # arrays of a block's size that the last step holds


class Config(RerankerConfig):
    """The defaults are those of the paper for Market-1501, which nearly everybody kept."""

    name: Literal["k_reciprocal"] = "k_reciprocal"
    k1: PositiveInt = Field(20, description="neighbours that must be reciprocal, the image itself not counted")
    k2: PositiveInt = Field(6, description="neighbours whose encodings are averaged, the image itself counted; 1: none")
    distance_weight: float = Field(0.3, ge=0, le=1, description="share of the first distance in the final one (lambda)")
    form: Literal["published", "released"] = Field(
        "published",
        description="published: squared distances, float32, as Zhong et al.; released: distances as they are and "
        "float16 encodings, as the code of TransMatcher and QAConv",
    )

    @model_validator(mode="after")
    def _lists_reach(self) -> Self:
        if self.k2 > self.k1 + 1:
            raise ValueError(f"wanted k2 of at most k1 + 1 = {self.k1 + 1}, found {self.k2}")
        return self


def rerank_embeddings(
    query_QD: Tensor,
    gallery_GD: Tensor,
    *,
    how: Config | None = None,
    out: NDArray[np.float32] | None = None,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Re-rank by Euclidean distances of embeddings, in memory that does not grow with N * N.

    Args:
        query_QD: embeddings, [Q, D], any floating dtype, any device. L2-normalise them where scores are cosines.
        gallery_GD: embeddings, [G, D], on the same device.
        how: the options; None: the defaults.
        out: where scores go, [Q, G], float32, a memory map for instance; None: a new array.
        block_bytes: distances that are looked at together. No score depends on it, apart from rounding.
        progress: where images/s, queries/s and the time left are shown.

    Returns:
        score_QG: minus the final distance, [Q, G], float32, in -1..0; ``out`` where it was given.

    Raises:
        ShapeError: shapes do not fit, an embedding is not finite, or ``out`` is no such array.
        ConfigError: the gallery has fewer than ``how.k1`` images.

    Source: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017. As in the authors'
    code, and not in the paper, each image's distances are divided by the largest of them, and encodings by their sum.
    """
    how = how or Config()
    distances = EmbeddingDistances(query_QD, gallery_GD, squared=how.form == "published")
    return _rerank(distances, how, out, block_bytes, progress or Silent())


def rerank_distances(
    query_gallery_QG: Floats,
    query_query_QQ: Floats,
    *,
    gallery_gallery_GG: Floats,
    how: Config | None = None,
    out: NDArray[np.float32] | None = None,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Re-rank by distances that were computed before, as pair matchers give them.

    Args:
        query_gallery_QG: distances, [Q, G], finite, at least 0; an array or a memory map.
        query_query_QQ: [Q, Q]; the diagonal counts like any other value.
        gallery_gallery_GG: [G, G].
        how: the options; None: the defaults.
        out: as for :func:`rerank_embeddings`.
        block_bytes: as for :func:`rerank_embeddings`; no score depends on it.
        progress: as for :func:`rerank_embeddings`.

    Returns:
        score_QG: minus the final distance, [Q, G], float32, in -1..0; ``out`` where it was given.

    Raises:
        ShapeError: shapes do not fit, or a distance is negative or not finite.
        ConfigError: the gallery has fewer than ``how.k1`` images.

    Source: as :func:`rerank_embeddings`. Equal distances keep the images' order, queries first; the released codes
    leave it to the sort.
    """
    how = how or Config()
    squared = how.form == "published"
    distances = MatrixDistances(query_gallery_QG, query_query_QQ, gallery_gallery_GG, squared=squared)
    return _rerank(distances, how, out, block_bytes, progress or Silent())


def _rerank(
    distances: Distances, how: Config, out: NDArray[np.float32] | None, block_bytes: int, progress: Progress
) -> NDArray[np.float32]:
    num_query, num_gallery = distances.num_query, distances.num_gallery
    _refuse_small(how, num_gallery)
    score_QG = score_array("k_reciprocal", (num_query, num_gallery), out, np.float32)
    near = neighbours(distances, how.k1 + 1, block_bytes=block_bytes, progress=progress)
    overlaps = _encode(distances, near, how)
    with progress.bar("re-rank", num_query, "query") as bar:
        for start, stop in blocks(num_query, 4 * _COPIES * num_gallery, block_bytes):
            score_QG[start:stop] = _scores(distances, near, overlaps, how, start, stop)
            bar.advance(stop - start)
    return score_QG


def _refuse_small(how: Config, num_gallery: int) -> None:
    if how.k1 > num_gallery:
        raise ConfigError(
            f"k_reciprocal: wanted a gallery of at least k1 = {how.k1} images, found {num_gallery}. Lower k1 (and k2) "
            "to about the number of images of a person."
        )


def _encode(distances: Distances, near: Neighbours, how: Config) -> Overlaps:
    precision: Precision = "float16" if how.form == "released" else "float32"
    set_NN = expanded_sets(near.idx_NK, round(how.k1 / 2) + 1)
    weight_NN = encoded(set_NN, distances, near.largest_N, precision)
    if how.k2 > 1:
        weight_NN = locally_expanded(weight_NN, near.idx_NK[:, : how.k2], precision)
    return Overlaps(weight_NN, distances.num_query, precision)


def _scores(
    distances: Distances, near: Neighbours, overlaps: Overlaps, how: Config, start: int, stop: int
) -> NDArray[np.float32]:
    """Minus ``(1 - lambda) * Jaccard + lambda * distance`` of a block of queries."""
    jaccard_BG = overlaps.block(start, stop)
    np.divide(jaccard_BG, 2 - jaccard_BG, out=jaccard_BG)  # the smaller weights over the larger: both sums make 2
    np.subtract(1, jaccard_BG, out=jaccard_BG)
    jaccard_BG *= 1 - how.distance_weight
    final_BG: NDArray[np.float32] = distances.block(start, stop, distances.num_query).cpu().numpy()
    final_BG /= near.largest_N[start:stop, None]
    final_BG *= how.distance_weight
    final_BG += jaccard_BG
    return np.negative(final_BG, out=final_BG)


class KReciprocal(Reranker):
    """See :func:`rerank_embeddings`.

    Source: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017.
    """

    reads_embeddings = True

    def __init__(self, config: Config) -> None:
        self.config: Config = config

    def refuse_images(self, query: Sequence[ImageRecord], gallery: Sequence[ImageRecord]) -> None:  # noqa: ARG002
        """See :meth:`Reranker.refuse_images`."""
        _refuse_small(self.config, len(gallery))

    def __call__(self, found: Found, out: NDArray[np.float32], progress: Progress) -> Found:
        """See :meth:`Reranker.__call__`; embeddings stay as they are."""
        query_QD, gallery_GD = found.embeddings(self.config.name)
        score_QG = rerank_embeddings(query_QD, gallery_GD, how=self.config, out=out, progress=progress)
        return replace(found, score_QG=score_QG, scale="negative distance")


COMPONENT = KReciprocal
