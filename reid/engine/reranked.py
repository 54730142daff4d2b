"""Images to scores, and through classical re-rankers to other scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from reid.engine.extract import Extraction, extract
from reid.engine.model import Model
from reid.evaluation.scoring import GalleryScores, Scoring, allocate_scores, score_gallery
from reid.evaluation.states import collect_states, fitting
from reid.progress import Progress
from reid.reranking._base import Found, Reranker, Scale, anonymous, refuse_unfit
from reid.types import ImageRecord, ImageState


@dataclass(frozen=True, slots=True, eq=False)
class Reranking:
    """Outcome of :func:`retrieve_and_rerank`.

    Attributes:
        scores: the model's, of all pairs.
        reranked_QG: what re-rankers made of them, [Q, G], float32.
        encode_s: seconds that all images took to become states.
        rerank_s: seconds spent re-ranking.
    """

    scores: GalleryScores
    reranked_QG: NDArray[np.float32]
    encode_s: float
    rerank_s: float


def retrieve_and_rerank(
    model: Model,
    rerankers: Sequence[Reranker],
    query: Sequence[ImageRecord],
    gallery: Sequence[ImageRecord],
    how: Extraction,
    *,
    scoring: Scoring,
    out: Path,
    progress: Progress,
) -> Reranking:
    """Score all query images against all gallery images, and re-rank.

    Args:
        model: put into eval mode, and left there.
        rerankers: at least one; each gets what the one before made.
        query: query images.
        gallery: gallery images.
        how: how states are computed and kept.
        scoring: memory and blocks.
        out: ``.npy`` file for scores beyond the memory; other files go beside it if need be.
        progress: where the time left is shown.

    Raises:
        ConfigError: a re-ranker does not fit; see :func:`refuse_unfit`, which is asked before an image is read. Or
            there is too little memory.
        DatasetError: the same.
        ReidError: see :func:`score_gallery`, :func:`collect_states` and the re-rankers.
    """
    cosine = model.matcher.info.cosine
    nameless = anonymous(query), anonymous(gallery)
    refuse_unfit(rerankers, *nameless, cosine=cosine)
    started = time.perf_counter()
    query_state, gallery_state = (
        _states(model, records, how, scoring, out.with_suffix(suffix))
        for records, suffix in ((query, ".queries"), (gallery, ".gallery"))
    )
    encode_s = time.perf_counter() - started
    blocks, scoring = gallery_state.split(scoring.gallery_block), _shared(scoring, rerankers)
    scores = score_gallery(model.score, query_state, blocks, len(gallery), how=scoring, out=out, progress=progress)
    started = time.perf_counter()
    query_QD, gallery_GD = (_unit_embeddings(state) if cosine else None for state in (query_state, gallery_state))
    scale: Scale = "cosine" if cosine else "logit"
    found = Found(scores.score_QG, scale, *nameless, query_QD, gallery_GD)
    for number, reranker in enumerate(rerankers):
        place = out.with_name(f"{out.stem}_{number + 1}.npy")
        found = reranker(found, allocate_scores(found.score_QG.shape, place, scoring.score_memory), progress)
    return Reranking(scores, found.score_QG, encode_s, time.perf_counter() - started)


def _states(model: Model, records: Sequence[ImageRecord], how: Extraction, scoring: Scoring, file: Path) -> ImageState:
    states = fitting(extract(model, records, how), scoring)
    return collect_states(states, len(records), max_memory=scoring.query_memory // 2, file=file)


def _shared(scoring: Scoring, rerankers: Sequence[Reranker]) -> Scoring:
    """With memory for one of the score arrays that are there together: the model's, what goes in, what comes out."""
    num_arrays = min(3, 1 + len(rerankers))
    rest = scoring.score_memory - scoring.score_memory // num_arrays
    return replace(scoring, scores_held=scoring.scores_held + rest)


def _unit_embeddings(state: ImageState) -> Tensor:
    """A matcher may normalise them only when it compares."""
    return functional.normalize(state["embedding"])
