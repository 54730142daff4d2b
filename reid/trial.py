"""One target, tested: by one stage, or by a first stage that proposes and a second that puts in order."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reid.domains import Target
from reid.engine.extract import Extraction
from reid.engine.model import Model
from reid.engine.reranked import retrieve_and_rerank
from reid.engine.retrieve import Shortcuts, retrieve
from reid.engine.two_stages import Reordering, TwoStages, retrieve_in_two
from reid.evaluation.agreement import RankAgreement
from reid.evaluation.judge import Judge, Verdict
from reid.evaluation.labels import Labels
from reid.evaluation.ranking import Ranking
from reid.evaluation.reranked import Reranked, gain, share_of_oracle
from reid.evaluation.results import Measured, TargetResult, target_result
from reid.evaluation.scoring import GalleryScores, Scoring
from reid.evaluation.shortlist import fused, perfect_order, shuffled_order
from reid.experiment import EvaluationConfig, Fusion
from reid.reranking._base import Reranker
from reid.runs import Session

_SHUFFLE_SEED = 0
_WEIGHTS = tuple(np.linspace(0.0, 1.0, 11).tolist())


@dataclass(frozen=True, eq=False)
class Test:
    """One tested target, with what pictures of it need."""

    target: Target
    scores: GalleryScores
    ranking: Ranking
    result: TargetResult


@dataclass(frozen=True)
class How:
    """How targets are tested.

    Attributes:
        options: the experiment's.
        session: where and with what.
        folder: where scores go that do not fit into memory.
        held: bytes of memory that scores of earlier targets take.
    """

    options: EvaluationConfig
    session: Session
    folder: Path
    held: int = 0

    @property
    def extraction(self) -> Extraction:
        """How states are computed."""
        options = self.options
        return Extraction(options.batch_size, self.session.num_workers, options.precision, options.state_precision)

    @property
    def scoring(self) -> Scoring:
        """How much is held at a time."""
        return Scoring(max_memory=int(self.options.memory_gib * 2**30), scores_held=self.held)

    @property
    def shortcuts(self) -> Shortcuts:
        """What may be approximated."""
        return Shortcuts(self.options.key_rank, self.options.int8_products)

    def judge(self, scores: GalleryScores, target: Target) -> Judge:
        """Of scores of a target."""
        labels = Labels.of(target.query), Labels.of(target.gallery)
        return Judge(scores.score_QG, *labels, same_camera=self.options.camera_rule)

    def begin(self, target: Target) -> None:
        """Say what is tested next."""
        self.session.progress.say(
            f"{target.label}: {len(target.query):,} queries, {len(target.gallery):,} gallery images"
        )
        if self.session.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.session.device)


def try_one_stage(model: Model, target: Target, how: How) -> Test:
    """Compare every query of a target with its whole gallery.

    Raises:
        ReidError: see :func:`reid.engine.retrieve.retrieve`.
    """
    how.begin(target)
    found = retrieve(
        model,
        target.query,
        target.gallery,
        how.extraction,
        scoring=how.scoring,
        shortcuts=how.shortcuts,
        out=how.folder / f"{target.file_name}.npy",
        progress=how.session.progress,
    )
    if found.agreement is not None:
        how.session.progress.say(_agreement(target.label, how.options, found.agreement))
    started = time.perf_counter()
    verdict = how.judge(found.scores, target).as_scored()
    how.session.progress.say(_cost(target, found.query_s + found.scores.gallery_s, found.scores))
    measured = Measured(
        query_s=found.query_s,
        rank_s=time.perf_counter() - started,
        agreement=found.agreement,
        peak_memory_mib=peak_memory_mib(how.session.device),
    )
    return _test(verdict, found.scores, target, measured)


def try_reranked(model: Model, rerankers: Sequence[Reranker], target: Target, how: How) -> Test:
    """The same, and let classical re-rankers have their way with the scores.

    Raises:
        ReidError: see :func:`reid.engine.reranked.retrieve_and_rerank`.
    """
    how.begin(target)
    found = retrieve_and_rerank(
        model,
        rerankers,
        target.query,
        target.gallery,
        how.extraction,
        scoring=how.scoring,
        out=how.folder / f"{target.file_name}.npy",
        progress=how.session.progress,
    )
    started = time.perf_counter()
    scores = replace(found.scores, score_QG=found.reranked_QG)
    first, second = (how.judge(each, target).as_scored() for each in (found.scores, scores))
    changed = Reranked(top_k=None, first=first.figures, rescore_s=found.rerank_s, **gain(first.metrics, second.metrics))
    measured = Measured(
        query_s=found.encode_s,
        rank_s=time.perf_counter() - started,
        peak_memory_mib=peak_memory_mib(how.session.device),
    )
    how.session.progress.say(
        f"{_cost(target, found.encode_s, found.scores)}, {1e3 * found.rerank_s / len(target.query):.3g} ms to re-rank"
    )
    return _test(second, scores, target, measured, changed)


def try_two_stages(stages: TwoStages, target: Target, how: How, fusion: Fusion, weight: float | None) -> Test:
    """The same, and let the second stage put the first places in order.

    Args:
        stages: the models.
        target: what to test on.
        how: how.
        fusion: how the stages' scores come together.
        weight: of the first stage's scores, for ``lerp``: see :func:`best_weight`.

    Raises:
        ReidError: see :func:`reorder`.
    """
    found = reorder(stages, target, how)
    started = time.perf_counter()
    judge = how.judge(found.scores, target)
    shuffled_QK = shuffled_order(found.shortlist, np.random.default_rng(_SHUFFLE_SEED))
    first = judge.as_scored()
    oracle = judge.reordered(found.shortlist, perfect_order(found.shortlist, judge.truth))
    shuffled = judge.reordered(found.shortlist, shuffled_QK)
    second = judge.reordered(found.shortlist, _order(found, weight), keep=True)
    changed = Reranked(
        top_k=stages.top_k,
        fusion=fusion,
        weight=weight,
        first=first.figures,
        oracle=oracle.figures,
        shuffled=shuffled.figures,
        share_of_oracle=share_of_oracle(first.figures, second.figures, oracle.figures),
        rescore_s=found.rescore_s,
        **gain(first.metrics, second.metrics),
    )
    measured = Measured(
        query_s=found.encode_s,
        rank_s=time.perf_counter() - started,
        peak_memory_mib=peak_memory_mib(how.session.device),
    )
    how.session.progress.say(_cost(target, found.encode_s, found.scores, found))
    return _test(second, found.scores, target, measured, changed)


def reorder(stages: TwoStages, target: Target, how: How) -> Reordering:
    """Score a target by a first stage, and what it proposes by a second.

    Raises:
        ReidError: see :func:`reid.engine.two_stages.retrieve_in_two`.
    """
    how.begin(target)
    return retrieve_in_two(
        stages,
        target.query,
        target.gallery,
        how.extraction,
        scoring=how.scoring,
        out=how.folder / f"{target.file_name}.npy",
        progress=how.session.progress,
    )


def best_weight(stages: TwoStages, validation: Target, how: How) -> float:
    """The weight of the first stage's scores, 0, 0.1 .. 1, with the highest mAP on ``validation``; the first of equals.

    Args:
        stages: the models; neither was trained on these identities.
        validation: identities of the source. Never a test set: its labels are looked at.
        how: how to test.
    """
    found = reorder(stages, validation, how)
    judge = how.judge(found.scores, validation)
    quality = [judge.reordered(found.shortlist, _order(found, weight)).metrics.mAP for weight in _WEIGHTS]
    weight: float = _WEIGHTS[int(np.argmax(quality))]
    how.session.progress.say(f"fusion: {weight:.1f} of the first stage's scores is best there, mAP {max(quality):.1%}")
    return weight


def _test(
    verdict: Verdict, scores: GalleryScores, target: Target, measured: Measured, changed: Reranked | None = None
) -> Test:
    result = target_result(
        target.label, verdict.ranking, verdict.metrics, scores, measured, counts_checked=target.counts_checked
    )
    return Test(target, scores, verdict.ranking, result.model_copy(update={"reranked": changed}))


def _order(found: Reordering, weight: float | None) -> NDArray[np.float32]:
    return found.second_QK if weight is None else fused(found.shortlist.score_QK, found.second_QK, weight)


def _cost(target: Target, encode_s: float, scores: GalleryScores, second: Reordering | None = None) -> str:
    """What an image, a pair and a query cost, for the log."""
    image_s = encode_s / (len(target.query) + len(target.gallery))
    query_s = image_s + scores.score_s / len(target.query)
    pair = f"{1e6 * scores.score_s / scores.score_QG.size:.3g} us a pair"
    if second is not None:
        query_s += second.rescore_s / len(target.query)
        pair += f" and {1e6 * second.rescore_s / second.second_QK.size:.3g} us a pair of the second stage"
    return f"{target.label}: {1e3 * image_s:.2g} ms to encode an image, {pair}, {1e3 * query_s:.3g} ms a query in all"


def _agreement(label: str, options: EvaluationConfig, found: RankAgreement) -> str:
    kept = round(found.same_best * found.num_query)
    cut = f", keys cut to rank {options.key_rank}" if options.key_rank else ""
    cut += ", int8 products" if options.int8_products else ""
    return (
        f"{label}: with states in {options.state_precision}{cut} a sample ranks as with exact scores by Spearman "
        f"{found.spearman:.5f}, {kept} of {found.num_query} queries keep their best match"
    )


def peak_memory_mib(device: torch.device) -> float | None:
    """Most memory in use: on a GPU since its statistics were reset, on a CPU since the process began; None: unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
