"""One target, tested by one model, with or without classical re-ranking behind it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from reid.domains import Target
from reid.engine.extract import Extraction
from reid.engine.model import Model
from reid.engine.reranked import retrieve_and_rerank
from reid.engine.retrieve import Shortcuts, retrieve
from reid.engine.two_stages import Reordering
from reid.errors import ConfigError
from reid.evaluation.agreement import RankAgreement
from reid.evaluation.judge import Judge, Verdict
from reid.evaluation.labels import Labels
from reid.evaluation.ranking import Ranking
from reid.evaluation.reranked import Reranked, gain
from reid.evaluation.results import Measured, TargetResult, target_result
from reid.evaluation.scoring import GalleryScores, Scoring
from reid.reranking._base import Reranker
from reid.runs import Session
from reid.schema import EvaluationConfig


@dataclass(frozen=True, eq=False)
class Test:
    """One tested target, with what pictures of it need."""

    target: Target
    scores: GalleryScores
    ranking: Ranking
    result: TargetResult

    @classmethod
    def of(
        cls, verdict: Verdict, scores: GalleryScores, target: Target, measured: Measured, changed: Reranked | None
    ) -> Test:
        """Put together what was judged and measured; ``changed``: what re-ranking did, None: there was none."""
        result = target_result(
            target.label, verdict.ranking, verdict.metrics, scores, measured, counts_checked=target.counts_checked
        )
        return cls(target, scores, verdict.ranking, result.model_copy(update={"reranked": changed}))


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

    def refuse_shortcuts(self) -> None:
        """Raise ConfigError where scores that are re-ranked would be approximate: that is not done."""
        if self.options.key_rank is not None or self.options.int8_products:
            raise ConfigError(
                "evaluation: wanted exact scores to re-rank, found key_rank or int8_products. Leave them out, or test "
                "one stage alone."
            )

    def judge(self, scores: GalleryScores, target: Target) -> Judge:
        """Of scores of a target."""
        labels = Labels.of(target.query), Labels.of(target.gallery)
        return Judge(scores.score_QG, *labels, same_camera=self.options.camera_rule)

    def measured(self, encode_s: float, rank_began: float, agreement: RankAgreement | None = None) -> Measured:
        """Seconds that states and, since ``rank_began``, ranks and metrics took, and what is known beside."""
        return Measured(
            query_s=encode_s,
            rank_s=time.perf_counter() - rank_began,
            agreement=agreement,
            peak_memory_mib=peak_memory_mib(self.session.device),
        )

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
    how.session.progress.say(cost(target, found.query_s + found.scores.gallery_s, found.scores))
    measured = how.measured(found.query_s, started, found.agreement)
    return Test.of(verdict, found.scores, target, measured, None)


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
    measured = how.measured(found.encode_s, started)
    how.session.progress.say(
        f"{cost(target, found.encode_s, found.scores)}, {1e3 * found.rerank_s / len(target.query):.3g} ms to re-rank"
    )
    return Test.of(second, scores, target, measured, changed)


def cost(target: Target, encode_s: float, scores: GalleryScores, second: Reordering | None = None) -> str:
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
