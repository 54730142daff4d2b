"""A cheap first stage proposes, a second stage puts the proposals in order: from images to both stages' scores."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reid.engine.extract import Extraction, extract, extract_both
from reid.engine.model import Model
from reid.evaluation.scoring import GalleryScores, Scoring, score_gallery
from reid.evaluation.shortlist import Shortlist, propose, rescore
from reid.evaluation.states import collect_states, fitting
from reid.progress import Progress
from reid.types import ImageRecord, ImageState

_STAGES = ("first", "second")


@dataclass(frozen=True, slots=True)
class TwoStages:
    """The models: ``first`` is compared with the whole gallery, ``second`` with its ``top_k`` best images a query."""

    first: Model
    second: Model
    top_k: int

    @property
    def one_backbone(self) -> bool:
        """Whether the maps that one of them reads serve both: backbones of equal weights see the same images."""
        one, two = self.first.backbone, self.second.backbone
        if one is None or two is None or self.first.image_size != self.second.image_size:
            return False
        if one.config.model_dump(exclude={"strides"}) != two.config.model_dump(exclude={"strides"}):
            return False
        if not (self.first.strides <= self.second.strides or self.second.strides <= self.first.strides):
            return False
        mine, other = one.state_dict(), two.state_dict()
        return mine.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in mine.items())


@dataclass(frozen=True, slots=True, eq=False)
class Reordering:
    """Outcome of :func:`retrieve_in_two`.

    Attributes:
        scores: the first stage's, of all pairs.
        shortlist: what it proposes.
        second_QK: the second stage's scores of that, [Q, K], float32.
        encode_s: seconds that all images took to become states of both stages.
        rescore_s: seconds spent in the second stage's scores.
    """

    scores: GalleryScores
    shortlist: Shortlist
    second_QK: NDArray[np.float32]
    encode_s: float
    rescore_s: float


def retrieve_in_two(
    stages: TwoStages,
    query: Sequence[ImageRecord],
    gallery: Sequence[ImageRecord],
    how: Extraction,
    *,
    scoring: Scoring,
    out: Path,
    progress: Progress,
) -> Reordering:
    """Score all query images against all gallery images, and the best of them once more.

    Args:
        stages: the two models; put into eval mode, and left there.
        query: query images.
        gallery: gallery images. States of both stages are kept until the end: in memory, or in a file.
        how: how states are computed and kept.
        scoring: memory and blocks.
        out: ``.npy`` file for scores beyond the memory; states go to files beside it if need be.
        progress: where pairs/s and the time left are shown.

    Raises:
        ConfigError: the gallery has fewer than ``top_k`` images, or there is too little memory.
        ImageError: an image is missing, truncated or no image.
        ReidError: see :func:`score_gallery`, :func:`collect_states` and :func:`rescore`.
    """
    started = time.perf_counter()
    query_state = _states(stages, query, how, scoring, out.with_suffix(".queries"))
    gallery_state = _states(stages, gallery, how, scoring, out.with_suffix(".gallery"))
    encode_s = time.perf_counter() - started
    (query_1, query_2), (gallery_1, gallery_2) = _apart(query_state), _apart(gallery_state)
    scores = score_gallery(
        stages.first.score,
        query_1,
        gallery_1.split(scoring.gallery_block),
        len(gallery),
        how=scoring,
        out=out,
        progress=progress,
    )
    shortlist = propose(scores.score_QG, stages.top_k, gallery)
    started = time.perf_counter()
    second_QK = rescore(stages.second.score, query_2, gallery_2, shortlist, gallery, how=scoring, progress=progress)
    return Reordering(scores, shortlist, second_QK, encode_s, time.perf_counter() - started)


def _states(
    stages: TwoStages, records: Sequence[ImageRecord], how: Extraction, scoring: Scoring, file: Path
) -> ImageState:
    if stages.one_backbone:
        pairs: Iterator[tuple[ImageState, ImageState]] = extract_both(stages.first, stages.second, records, how)
    else:
        pairs = zip(extract(stages.first, records, how), extract(stages.second, records, how), strict=True)
    states = fitting(map(_together, pairs), scoring, _apart)
    return collect_states(states, len(records), max_memory=scoring.query_memory // 2, file=file)


def _together(states: tuple[ImageState, ImageState]) -> ImageState:
    named = list(zip(_STAGES, states, strict=True))
    tensors = {f"{stage}.{name}": tensor for stage, state in named for name, tensor in state.tensors.items()}
    return ImageState(
        tensors, {f"{stage}.{name}": kept for stage, state in named for name, kept in state.fields.items()}
    )


def _apart(state: ImageState) -> tuple[ImageState, ImageState]:
    one, two = (
        ImageState(
            {
                name.removeprefix(f"{stage}."): tensor
                for name, tensor in state.tensors.items()
                if name.startswith(stage)
            },
            {name.removeprefix(f"{stage}."): kept for name, kept in state.fields.items() if name.startswith(stage)},
        )
        for stage in _STAGES
    )
    return one, two
