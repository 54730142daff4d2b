"""A shortlist a query, put in order by a second stage; what is not on it stays as it was, below."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from reid.errors import ConfigError, ShapeError
from reid.evaluation.labels import Truth
from reid.evaluation.ranking import Scores, top_k
from reid.evaluation.scoring import ScoreFunction, Scoring
from reid.progress import Progress, Silent
from reid.types import ImageRecord, ImageState


@dataclass(frozen=True, slots=True, eq=False)
class Shortlist:
    """The K gallery images of each query that a first stage ranks highest; no label was looked at.

    Attributes:
        gallery_idx_QK: which, best first, [Q, K], int64.
        score_QK: the first stage's scores, [Q, K], float32.
        gallery: digest of the gallery that the indices count, see :func:`gallery_digest`.
    """

    gallery_idx_QK: NDArray[np.int64]
    score_QK: NDArray[np.float32]
    gallery: str

    def refuse_other(self, gallery: Sequence[ImageRecord]) -> None:
        """Raise ShapeError unless ``gallery`` is the one the shortlist was made from, in the same order."""
        if gallery_digest(gallery) != self.gallery:
            raise ShapeError(
                f"shortlist: wanted the gallery it was made from, in the same order, found another ({len(gallery):,} "
                "images). Make the shortlist anew."
            )


def gallery_digest(gallery: Sequence[ImageRecord]) -> str:
    """Of the images' files, in order, each by its name and the two folders that hold it.

    Where the data lies makes no difference, but the name alone would not do: trees such as ``gallery/PID/1.jpg`` have
    the same names for all people.
    """
    names = "\n".join("/".join(record.path.parts[-3:]) for record in gallery)
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def propose(score_QG: Scores, k: int, gallery: Sequence[ImageRecord]) -> Shortlist:
    """The ``k`` best gallery images of each query; of equal scores, the earlier image first.

    Args:
        score_QG: the first stage's, [Q, G], finite.
        k: how many.
        gallery: the G images.

    Raises:
        ConfigError: the gallery has fewer than ``k`` images.
    """
    if k > len(gallery):
        raise ConfigError(f"top_k = {k}: wanted at most the {len(gallery):,} images of the gallery. Propose fewer.")
    idx_QK = top_k(score_QG, k)
    return Shortlist(idx_QK, _picked(score_QG, idx_QK), gallery_digest(gallery))


def rescore(
    score: ScoreFunction,
    query: ImageState,
    gallery: ImageState,
    shortlist: Shortlist,
    images: Sequence[ImageRecord],
    *,
    how: Scoring | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Scores of the shortlisted pairs by a second stage, [Q, K], float32.

    Args:
        score: compares two blocks of states; called with one query and its K gallery images at a time, or as many of
            them as memory allows.
        query: the queries' states.
        gallery: the whole gallery's states; only shortlisted ones are read.
        shortlist: of the same queries and gallery.
        images: the gallery's, in the order of its states.
        how: block sizes and memory; None: the defaults.
        progress: where pairs/s and the time left are shown.

    Raises:
        ConfigError: ``how.max_memory`` is too little for one state.
        ShapeError: the shortlist is one of other queries or of another gallery, or a score is not finite.
    """
    shortlist.refuse_other(images)
    num_query, k = shortlist.gallery_idx_QK.shape
    if len(query) != num_query:
        raise ShapeError(f"rescore: wanted states of the shortlist's {num_query} queries, found {len(query)}.")
    if len(gallery) != len(images):
        raise ShapeError(f"rescore: wanted states of the {len(images):,} gallery images, found {len(gallery):,}.")
    size = (how or Scoring()).gallery_images(gallery.nbytes // len(gallery))
    found_QK = np.empty((num_query, k), dtype=np.float32)
    with (progress or Silent()).bar("re-rank", num_query * k, "pair") as bar, torch.no_grad():
        for row, idx_K in enumerate(shortlist.gallery_idx_QK):
            parts = (score(query[[row]], gallery[part_P]) for part_P in torch.from_numpy(idx_K).split(size))
            found_QK[row] = torch.cat([part_1P.float().cpu() for part_1P in parts], dim=1).numpy()[0]
            bar.advance(k)
    if not np.isfinite(found_QK).all():
        row, column = np.argwhere(~np.isfinite(found_QK))[0].tolist()
        raise ShapeError(
            f"rescore: wanted finite scores, found {found_QK[row, column]} for query image {row} and gallery image "
            f"{shortlist.gallery_idx_QK[row, column]}, counted from 0. Look for a training that diverged."
        )
    return found_QK


def fused(first_QK: NDArray[np.float32], second_QK: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """``weight`` of the first stage's scores and the rest of the second's, [Q, K].

    Each is brought to mean 0 and deviation 1 within a query's shortlist before.
    """
    mixed_QK = weight * _standard(first_QK) + (1 - weight) * _standard(second_QK)
    return mixed_QK.astype(np.float32)


def place_above(score_QG: NDArray[np.float32], shortlist: Shortlist, order_QK: NDArray[np.float32]) -> None:
    """Put shortlisted images into a new order, above all others, which stay as they are; in place.

    What is written are scores above a row's highest, in even steps: an order, with ties where ``order_QK`` has them.

    Args:
        score_QG: the first stage's, [Q, G]; a memory map is as good.
        shortlist: taken from them.
        order_QK: higher = further up, [Q, K].
    """
    num = order_QK.shape[1]
    for row, (idx_K, order_K) in enumerate(zip(shortlist.gallery_idx_QK, order_QK, strict=True)):
        level_K = np.unique(order_K, return_inverse=True)[1] + 1
        top = score_QG[row].max()
        score_QG[row, idx_K] = top + max(abs(top), 1.0) * level_K.astype(np.float32) / np.float32(num)


def put_back(score_QG: NDArray[np.float32], shortlist: Shortlist) -> None:
    """Undo :func:`place_above`."""
    np.put_along_axis(score_QG, shortlist.gallery_idx_QK, shortlist.score_QK, axis=1)


def perfect_order(shortlist: Shortlist, truth: Truth) -> NDArray[np.float32]:
    """What no second stage can beat: 1 for the images on the shortlist that match, else 0, [Q, K]."""
    return np.stack([np.isin(idx_K, truth[row].match_M) for row, idx_K in enumerate(shortlist.gallery_idx_QK)]).astype(
        np.float32
    )


def shuffled_order(shortlist: Shortlist, generator: np.random.Generator) -> NDArray[np.float32]:
    """What a second stage without any knowledge does, [Q, K]."""
    return generator.random(shortlist.gallery_idx_QK.shape, dtype=np.float32)


def _standard(score_QK: NDArray[np.float32]) -> NDArray[np.float64]:
    exact_QK = score_QK.astype(np.float64)
    spread_Q1 = exact_QK.std(axis=1, keepdims=True)
    standard_QK: NDArray[np.float64] = (exact_QK - exact_QK.mean(axis=1, keepdims=True)) / np.where(
        spread_Q1 > 0, spread_Q1, 1.0
    )
    return standard_QK


def _picked(score_QG: Scores, idx_QK: NDArray[np.int64]) -> NDArray[np.float32]:
    rows = [np.asarray(score_QG[row], dtype=np.float32)[idx_K] for row, idx_K in enumerate(idx_QK)]
    return np.stack(rows)
