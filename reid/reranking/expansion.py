"""Alpha query expansion: a query becomes the weighted mean of itself and its nearest gallery images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor
from torch.nn.functional import normalize

from reid.errors import ConfigError
from reid.progress import Progress, Silent
from reid.reranking._arrays import BLOCK_BYTES, blocks, check_embeddings, score_array
from reid.reranking._base import Found, Reranker, RerankerConfig
from reid.reranking._neighbours import smallest
from reid.types import ImageRecord


class Config(RerankerConfig):
    """The paper takes 50 images of a landmark; a person has fewer."""

    name: Literal["expansion"] = "expansion"
    num_query_neighbours: NonNegativeInt = Field(
        5, description="gallery images that join a query; about half of a person's images at other cameras; 0: none"
    )
    num_gallery_neighbours: NonNegativeInt = Field(
        0, description="other gallery images that join each gallery image, before queries are expanded; 0: none"
    )
    alpha: NonNegativeFloat = Field(3.0, description="weight = cosine ** alpha, as in the paper; 0: a plain mean")


def rerank(
    query_QD: Tensor,
    gallery_GD: Tensor,
    *,
    how: Config | None = None,
    out: NDArray[np.float32] | None = None,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Cosines after expansion of the queries and, if asked for, of the gallery.

    Args:
        query_QD: embeddings, [Q, D], any floating dtype, any device; normalised here.
        gallery_GD: embeddings, [G, D], on the same device.
        how: the options; None: the defaults.
        out: where scores go, [Q, G], float32, a memory map for instance; None: a new array.
        block_bytes: scores that are looked at together. No score depends on it, apart from rounding.
        progress: where images/s and the time left are shown.

    Returns:
        score_QG: [Q, G], float32, in -1..1; ``out`` where it was given.

    Raises:
        ShapeError: shapes do not fit, an embedding is not finite, or ``out`` is no such array.
        ConfigError: the gallery has fewer images than are to join.

    Source: Radenovic et al., Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI 2019.
    """
    how = how or Config()
    check_embeddings("expansion", query_QD, gallery_GD)
    score_QG = score_array("expansion", (len(query_QD), len(gallery_GD)), out, np.float32)
    query_QD, gallery_GD = _expand_both(query_QD, gallery_GD, how, block_bytes, progress)
    return _cosines(query_QD, gallery_GD, score_QG, block_bytes)


def expand(
    embedding_ND: Tensor,
    gallery_GD: Tensor | None,
    *,
    num: int,
    alpha: float,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress | None = None,
) -> Tensor:
    """Add to each embedding its nearest in the gallery, weighted by ``cosine ** alpha``; its own weight is 1.

    Args:
        embedding_ND: [N, D], any floating dtype; normalised here.
        gallery_GD: [G, D], on the same device; None: the embeddings themselves, where no image joins itself.
        num: how many join; of equal cosines, the earlier image first. Negative cosines count as 0.
        alpha: how fast weight falls with the cosine.
        block_bytes: cosines that are looked at together.
        progress: where images/s and the time left are shown.

    Returns:
        expanded_ND: [N, D], float32, L2-normalised.

    Raises:
        ShapeError: shapes do not fit, or an embedding is not finite.
        ConfigError: there are fewer than ``num`` images to join.

    Source: Radenovic et al., TPAMI 2019; of a gallery by itself: Gordo et al., End-to-end Learning of Deep Visual
    Representations for Image Retrieval, IJCV 2017.
    """
    among_GD = embedding_ND if gallery_GD is None else gallery_GD
    check_embeddings("expansion", embedding_ND, among_GD)
    _check_number(num, len(among_GD) - (gallery_GD is None))
    among_GD = normalize(among_GD.detach().float(), dim=1)
    expanded_ND = normalize(embedding_ND.detach().float(), dim=1)
    if num == 0:
        return expanded_ND
    with (progress or Silent()).bar("expand", len(expanded_ND), "image") as bar:
        for start, stop in blocks(len(expanded_ND), 4 * (len(among_GD) + num * among_GD.shape[1]), block_bytes):
            rows_BD = expanded_ND[start:stop]
            distance_BG = (rows_BD @ among_GD.T).neg_()
            if gallery_GD is None:
                distance_BG.diagonal(start).fill_(2)  # farther than any other
            idx_BK = smallest(distance_BG, num)
            weight_BK = distance_BG.gather(1, idx_BK).neg_().clamp_min_(0).pow_(alpha)
            rows_BD += (weight_BK[:, :, None] * among_GD[idx_BK]).sum(1)
            bar.advance(stop - start)
    return normalize(expanded_ND, dim=1)


def _check_number(num: int, found: int) -> None:
    if num > found:
        raise ConfigError(
            f"expansion: wanted {num} gallery images to join each image, found {found}. Lower num_query_neighbours or "
            "num_gallery_neighbours to about half the number of images of a person."
        )


def _expand_both(
    query_QD: Tensor, gallery_GD: Tensor, how: Config, block_bytes: int, progress: Progress | None
) -> tuple[Tensor, Tensor]:
    grow = partial(expand, alpha=how.alpha, block_bytes=block_bytes, progress=progress)
    gallery_GD = grow(gallery_GD, None, num=how.num_gallery_neighbours)
    return grow(query_QD, gallery_GD, num=how.num_query_neighbours), gallery_GD


def _cosines(query_QD: Tensor, gallery_GD: Tensor, out: NDArray[np.float32], block_bytes: int) -> NDArray[np.float32]:
    for start, stop in blocks(len(query_QD), 4 * len(gallery_GD), block_bytes):
        out[start:stop] = (query_QD[start:stop] @ gallery_GD.T).cpu().numpy()
    return out


class Expansion(Reranker):
    """See :func:`rerank`.

    Source: Radenovic et al., Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI 2019.
    """

    reads_embeddings = True

    def __init__(self, config: Config) -> None:
        self.config: Config = config

    def refuse_images(self, query: Sequence[ImageRecord], gallery: Sequence[ImageRecord]) -> None:  # noqa: ARG002
        """See :meth:`Reranker.refuse_images`."""
        _check_number(self.config.num_query_neighbours, len(gallery))
        _check_number(self.config.num_gallery_neighbours, len(gallery) - 1)

    def __call__(self, found: Found, out: NDArray[np.float32], progress: Progress) -> Found:
        """See :meth:`Reranker.__call__`; whoever comes next gets the expanded embeddings."""
        query_QD, gallery_GD = found.embeddings(self.config.name)
        check_embeddings("expansion", query_QD, gallery_GD)
        query_QD, gallery_GD = _expand_both(query_QD, gallery_GD, self.config, BLOCK_BYTES, progress)
        score_QG = _cosines(query_QD, gallery_GD, out, BLOCK_BYTES)
        return replace(found, score_QG=score_QG, scale="cosine", query_QD=query_QD, gallery_GD=gallery_GD)


COMPONENT = Expansion
