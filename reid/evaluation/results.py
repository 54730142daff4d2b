"""What a run leaves: every number together with the choices that made it. Fractions 0..1, relative paths only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from reid.config import Config
from reid.evaluation._stored import read_stored
from reid.evaluation.agreement import RankAgreement
from reid.evaluation.labels import CameraRule
from reid.evaluation.metrics import MAX_RANK, RetrievalMetrics
from reid.evaluation.ranking import Ranking
from reid.evaluation.reranked import Fraction, Reranked
from reid.evaluation.scoring import GalleryScores
from reid.files import write_json
from reid.types import StatePrecision

SCHEMA_VERSION: Final = 1

ApRule = Literal["finite_sum", "trapezoid"]


class Stamp(Config):
    """The protocol and the choices behind all numbers of a run."""

    sources: tuple[str, ...]  # labels of the sets trained on, with their variant; none: an untrained model
    sources_counts_checked: bool = True  # whether their images were compared with the published counts
    ap_rule: ApRule = "finite_sum"  # which mAP is the one to quote; both are in the targets
    tie_rule: Literal["stable: gallery order"] = "stable: gallery order"
    checkpoint_rule: Literal["last epoch"] = "last epoch"
    recipe: str | None = None  # digest of all that decides the training but the seed; None: not kept by older versions
    seed: NonNegativeInt
    image_size: tuple[PositiveInt, PositiveInt]  # height, width in pixels
    normalisation: str  # of the backbone's input, such as "none" or "ImageNet"
    precision: str  # of backbone and encoder; scores are float32
    state_precision: StatePrecision = "float16"  # of states that wait to be scored
    key_rank: PositiveInt | None = None  # channels in which positions were compared; None: all
    int8_products: bool = False  # whether positions were compared in 8-bit integers
    pair_scores: str | None = None  # which of the ways to compute them was taken; None: the matcher has but one
    backbone: str | None  # None: the matcher looks at pixels
    weights: str | None = None  # what the backbone started from; None: random
    matcher: str  # its name, with its settings in brackets behind it
    rerankers: tuple[str, ...] = ()  # what changed its scores afterwards, in order
    first_stage: str | None = None  # what proposed the images that the matcher put in order; None: it saw all
    first_recipe: str | None = None  # digest of the first stage's training, as recipe
    first_seed: NonNegativeInt | None = None
    parameters: NonNegativeInt  # of backbone and matcher
    commit: str | None = None  # of the code; None: not a git checkout

    @property
    def trained_on(self) -> str:
        """The sources in one string, as tables and pictures print them."""
        return " + ".join(self.sources) or "nothing (untrained)"

    @property
    def method(self) -> str:
        """The matcher's name without its settings; between a first stage and re-rankers, where there are such."""
        names = (stage.partition(" (")[0] for stage in (self.first_stage, self.matcher, *self.rerankers) if stage)
        return " > ".join(names)


class Training(Config):
    """What the training took."""

    epochs: NonNegativeInt
    steps: NonNegativeInt
    images_seen: NonNegativeInt
    seconds: NonNegativeFloat


class Agreement(Config):
    """How scores of half-precision states rank a sample, compared with full precision."""

    spearman: Annotated[float, Field(ge=-1, le=1 + 1e-9)]  # mean over queries
    same_best: Fraction  # queries that keep their best match
    num_query: PositiveInt
    num_gallery: PositiveInt


class TargetResult(Config):
    """Everything about one test."""

    target: str  # label of the set, with its variant
    counts_checked: bool
    camera_rule: CameraRule
    rank1: Fraction
    rank5: Fraction
    rank10: Fraction
    mAP: Fraction  # finite sum
    mAP_trapezoid: Fraction
    mINP: Fraction
    cmc: Annotated[tuple[Fraction, ...], Field(min_length=MAX_RANK, max_length=MAX_RANK)]
    num_query: PositiveInt
    num_query_counted: PositiveInt  # those with a match
    num_gallery: PositiveInt  # junk included
    unmatched: dict[str, PositiveInt]  # reason -> queries that are not counted
    extract_s: NonNegativeFloat  # computing states, queries and gallery
    score_s: NonNegativeFloat
    rank_s: NonNegativeFloat  # ranks and metrics
    pairs_per_s: NonNegativeFloat
    agreement: Agreement | None = None  # None: states were kept in float32, or an older version tested
    peak_memory_mib: NonNegativeFloat | None = None  # of this test on a GPU, since the process began on a CPU
    reranked: Reranked | None = None  # None: one stage
    per_query: tuple[tuple[PositiveInt, ...], ...] | None = None  # ranks of every query's matches

    def quoted_map(self, rule: ApRule) -> float:
        """The mAP that ``rule`` gives, 0..1."""
        return self.mAP if rule == "finite_sum" else self.mAP_trapezoid


class RunResult(Config):
    """``results.json`` of a run."""

    schema_version: Literal[1] = SCHEMA_VERSION
    title: str
    stamp: Stamp
    targets: tuple[TargetResult, ...]
    training: Training | None = None  # None: nothing was trained
    machine: str  # processor, cores, accelerator

    def without_per_query(self) -> RunResult:
        """The same without per-query ranks, small enough to be kept beside the experiments."""
        return self.model_copy(
            update={"targets": tuple(target.model_copy(update={"per_query": None}) for target in self.targets)}
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured beside the metrics.

    Attributes:
        query_s: seconds spent computing the queries' states.
        rank_s: seconds spent on ranks and metrics.
        agreement: how half-precision states rank; None: states were kept in full precision.
        peak_memory_mib: most memory in use, in MiB: on a GPU during the test, on a CPU since the process began;
            None: not measured.
    """

    query_s: float
    rank_s: float
    agreement: RankAgreement | None = None
    peak_memory_mib: float | None = None


def target_result(
    target: str,
    ranking: Ranking,
    metrics: RetrievalMetrics,
    scores: GalleryScores,
    measured: Measured,
    *,
    counts_checked: bool,
) -> TargetResult:
    """Put together the result of one test.

    Args:
        target: label of the set, with its variant.
        ranking: ranks of the true matches.
        metrics: what they come to.
        scores: the scores that were ranked, for their size and times.
        measured: times, memory and precision.
        counts_checked: whether the set's images were compared with the published counts.
    """
    agreement = measured.agreement
    return TargetResult(
        target=target,
        counts_checked=counts_checked,
        camera_rule=ranking.camera_rule,
        rank1=metrics.rank(1),
        rank5=metrics.rank(5),
        rank10=metrics.rank(10),
        mAP=metrics.mAP,
        mAP_trapezoid=metrics.mAP_trapezoid,
        mINP=metrics.mINP,
        cmc=tuple(metrics.cmc_K.tolist()),
        num_query=len(ranking.rank_Q),
        num_query_counted=len(metrics.query_idx_N),
        num_gallery=scores.score_QG.shape[1],
        unmatched={str(reason): count for reason, count in ranking.unmatched_counts.items()},
        extract_s=measured.query_s + scores.gallery_s,
        score_s=scores.score_s,
        rank_s=measured.rank_s,
        pairs_per_s=scores.pairs_per_s,
        agreement=None if agreement is None else Agreement(**asdict(agreement)),
        peak_memory_mib=measured.peak_memory_mib,
        per_query=tuple(tuple(rank_M.tolist()) for rank_M in ranking.rank_Q),
    )


def write_results(path: Path, result: RunResult) -> None:
    """Write ``result`` as JSON, atomically. Raises StorageError."""
    write_json(path, result.model_dump(mode="json"))


def read_results(path: Path) -> RunResult:
    """Read a results file, or the ``results.json`` of a run folder.

    Raises:
        CheckpointError: there is none, it cannot be read, it is damaged, or a newer reid wrote it.
    """
    return read_stored(RunResult, path / "results.json" if path.is_dir() else path, SCHEMA_VERSION, "reid evaluate")
