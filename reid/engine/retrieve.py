"""Images to scores: every query image against every gallery image, by a model, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from reid.engine.extract import Extraction, extract
from reid.engine.model import Model
from reid.evaluation._ahead import ahead
from reid.evaluation.agreement import RankAgreement, rank_agreement
from reid.evaluation.scoring import GalleryScores, Scoring, score_gallery
from reid.evaluation.states import collect_states
from reid.kernels.simmax import describe
from reid.progress import Progress
from reid.types import ImageRecord, ImageState, StatePrecision

_COMPARED = (32, 128)
"""Query and gallery images whose scores are computed with states in full precision as well."""


@dataclass(frozen=True, slots=True, eq=False)
class Retrieval:
    """Outcome of :func:`retrieve`.

    Attributes:
        scores: of all pairs.
        query_s: seconds spent computing the queries' states.
        agreement: how half-precision states rank a sample; None: states were kept in full precision.
    """

    scores: GalleryScores
    query_s: float
    agreement: RankAgreement | None


def retrieve(
    model: Model,
    query: Sequence[ImageRecord],
    gallery: Sequence[ImageRecord],
    how: Extraction,
    *,
    scoring: Scoring,
    out: Path,
    progress: Progress,
) -> Retrieval:
    """Score all query images against all gallery images.

    Args:
        model: put into eval mode, and left there.
        query: query images.
        gallery: gallery images; their states stream by.
        how: how states are computed and kept.
        scoring: memory and blocks.
        out: ``.npy`` file for scores beyond the memory; the queries' states go to a file beside it if need be.
        progress: where pairs/s and the time left are shown.

    Raises:
        ImageError: an image is missing, truncated or no image.
        ReidError: see :func:`score_gallery` and :func:`collect_states`.
    """
    started = time.perf_counter()
    query_state = collect_states(
        extract(model, query, how), len(query), max_memory=scoring.query_memory, file=out.with_suffix(".states")
    )
    query_s = time.perf_counter() - started
    states = extract(model, gallery, how)
    if model.device.type != "cpu":
        states = ahead(states)  # on a CPU, encoding and scoring would want the same cores
    scores = score_gallery(model.score, query_state, states, len(gallery), how=scoring, out=out, progress=progress)
    return Retrieval(scores, query_s, _agreement(model, query, gallery, how))


def state_precision(model: Model, wanted: StatePrecision) -> StatePrecision:
    """Of its states in storage: embeddings are small, and kept in full precision whatever was asked for."""
    return "float32" if model.matcher.info.kind == "embedding" else wanted


def scoring_way(model: Model, states: StatePrecision) -> str | None:
    """By which kernel pairs are scored, and why, in half a sentence; None: the matcher has but one way."""
    return describe(model.device, getattr(torch, states)) if model.matcher.info.kind == "all_pairs" else None


def _agreement(
    model: Model, query: Sequence[ImageRecord], gallery: Sequence[ImageRecord], how: Extraction
) -> RankAgreement | None:
    if state_precision(model, how.states) == "float32":
        return None
    exactly = replace(how, states="float32", num_workers=0)
    exact = [
        ImageState.cat(list(extract(model, _sample(records, size), exactly)))
        for records, size in zip((query, gallery), _COMPARED, strict=True)
    ]
    halves = [state.stored(how.states) for state in exact]
    exact_QG, score_QG = (model.score(*states).cpu().numpy() for states in (exact, halves))
    return rank_agreement(score_QG, exact_QG)


def _sample(records: Sequence[ImageRecord], size: int) -> list[ImageRecord]:
    return [records[index] for index in np.linspace(0, len(records) - 1, min(size, len(records))).astype(int)]
