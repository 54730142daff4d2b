"""Images to scores: every query image against every gallery image, by a model, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from reid.engine.extract import Extraction, extract
from reid.engine.model import Model
from reid.errors import ConfigError
from reid.evaluation._ahead import ahead
from reid.evaluation.agreement import RankAgreement, rank_agreement
from reid.evaluation.scoring import GalleryScores, Scoring, score_gallery
from reid.evaluation.states import collect_states, fitting
from reid.kernels import native
from reid.kernels.simmax import describe, using
from reid.progress import Progress
from reid.types import ImageRecord, ImageState, StatePrecision

_COMPARED = (32, 128)
"""Query and gallery images whose scores are computed with states in full precision as well."""


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """Ways to score faster at the cost of exactness.

    Attributes:
        key_rank: see :meth:`~reid.matchers._base.Matcher.low_rank`; None: keys as they are.
        int8: multiply 8-bit integers, with one scale an image, on a CPU with AMX.
    """

    key_rank: int | None = None
    int8: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Retrieval:
    """Outcome of :func:`retrieve`.

    Attributes:
        scores: of all pairs.
        query_s: seconds spent computing the queries' states.
        agreement: how the scores rank a sample, compared with exact ones; None: they are exact.
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
    shortcuts: Shortcuts | None = None,
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
        shortcuts: what may be approximated; None: nothing.
        out: ``.npy`` file for scores beyond the memory; the queries' states go to a file beside it if need be.
        progress: where pairs/s and the time left are shown.

    Raises:
        ImageError: an image is missing, truncated or no image.
        ConfigError: a shortcut is not possible here.
        ReidError: see :func:`score_gallery` and :func:`collect_states`.
    """
    shortcuts = shortcuts or Shortcuts()
    fast = _shortened(model, shortcuts)
    started = time.perf_counter()
    query_states = fitting(extract(fast, query, how), scoring)
    query_state = collect_states(
        query_states, len(query), max_memory=scoring.query_memory, file=out.with_suffix(".states")
    )
    query_s = time.perf_counter() - started
    states = extract(fast, gallery, how)
    if model.device.type != "cpu":
        # so many as are scored together; on a CPU, encoding and scoring would want the same cores
        states = ahead(states, -(-scoring.gallery_block // how.batch_size))
    with _kernel(shortcuts):
        scores = score_gallery(fast.score, query_state, states, len(gallery), how=scoring, out=out, progress=progress)
    return Retrieval(scores, query_s, _agreement(model, fast, (query, gallery), how, shortcuts))


def state_precision(model: Model, wanted: StatePrecision) -> StatePrecision:
    """Of its states in storage: embeddings are small, and kept in full precision whatever was asked for."""
    return "float32" if model.matcher.info.kind == "embedding" else wanted


def scoring_way(model: Model, states: StatePrecision, shortcuts: Shortcuts) -> str | None:
    """By which kernel pairs are scored, and why, in half a sentence; None: the matcher has but one way."""
    with _kernel(shortcuts):
        return describe(model.device, getattr(torch, states)) if model.matcher.info.takes_maxima else None


def _shortened(model: Model, shortcuts: Shortcuts) -> Model:
    found = native.amx().reason if model.device.type == "cpu" else f"a model on {model.device}"
    found = found if model.matcher.info.takes_maxima else type(model.matcher).__name__
    if shortcuts.int8 and found:
        raise ConfigError(
            "evaluation.int8_products: wanted a matcher that compares all positions, on a CPU with the native AMX "
            f"kernel, found: {found}. Leave it out."
        )
    if shortcuts.key_rank is None:
        return model
    return Model(model.backbone, model.matcher.low_rank(shortcuts.key_rank), model.image_size, model.norms)


def _kernel(shortcuts: Shortcuts) -> AbstractContextManager[None]:
    return using("int8") if shortcuts.int8 else nullcontext()


def _agreement(
    exact: Model,
    fast: Model,
    images: tuple[Sequence[ImageRecord], Sequence[ImageRecord]],
    how: Extraction,
    shortcuts: Shortcuts,
) -> RankAgreement | None:
    if shortcuts == Shortcuts() and state_precision(exact, how.states) == "float32":
        return None
    samples = [_sample(records, size) for records, size in zip(images, _COMPARED, strict=True)]
    if len(samples[1]) < 2:
        return None  # one image has no order
    how = replace(how, num_workers=0)
    with _kernel(shortcuts):
        score_QG = fast.score(*(_states(fast, sample, how) for sample in samples))
    exact_QG = exact.score(*(_states(exact, sample, replace(how, states="float32")) for sample in samples))
    return rank_agreement(score_QG.cpu().numpy(), exact_QG.cpu().numpy())


def _states(model: Model, records: Sequence[ImageRecord], how: Extraction) -> ImageState:
    return ImageState.cat(list(extract(model, records, how)))


def _sample(records: Sequence[ImageRecord], size: int) -> list[ImageRecord]:
    return [records[index] for index in np.linspace(0, len(records) - 1, min(size, len(records))).astype(int)]
