"""What a test of correspondences leaves: every number together with the pairs it was measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from reid.config import Config
from reid.evaluation._stored import read_stored
from reid.evaluation.keypoint_matches import MatchMetrics
from reid.evaluation.metrics import Interval
from reid.evaluation.pair_scores import auc_margin, margin
from reid.evaluation.reranked import Fraction
from reid.evaluation.warp_metrics import WarpMetrics
from reid.files import write_json

SCHEMA_VERSION: Final = 1


class Gain(Config):
    """How far the matcher is ahead of another method on the same pairs, with the bounds of a 95 % interval."""

    value: float
    low: float
    high: float

    @staticmethod
    def of(interval: Interval | None) -> Gain | None:
        """From a bootstrap; None where there was nothing to draw from."""
        if interval is None:
            return None
        return Gain(value=interval.difference, low=interval.low, high=interval.high)


class MethodResult(Config):
    """One method on one set of pairs; means over pairs, None where there was nothing to measure."""

    target: str  # label of the set whose images or people are shown
    pairs: str  # mild, mid or hard: views made of one image; same person, different persons: two renderings
    method: str
    num_pairs: PositiveInt
    mean_px: NonNegativeFloat | None  # end-point error where something was found
    median_px: NonNegativeFloat | None
    pck_2px: Fraction | None
    pck_4px: Fraction | None
    pck_8px: Fraction | None
    coverage: Fraction | None  # share of visible positions for which something was found
    auc: Fraction | None  # of the confidence against being visible
    precision: Fraction | None = None  # of matches between keypoints; None: the method has none
    recall: Fraction | None = None
    ap: Fraction | None = None  # of all keypoints that are each other's best, whatever the matcher's threshold
    pck_4px_gain: Gain | None = None  # of the matcher over this method; None: it is the matcher, or none has both
    ap_gain: Gain | None = None
    marginal_error: NonNegativeFloat | None = None  # of the matcher's transport, the median pair's; None: it has none


class IdentityResult(Config):
    """Whether a score tells the same person from another."""

    target: str
    score: str
    num_same: PositiveInt  # pairs of one person, seen by different cameras
    num_different: PositiveInt
    auc: Fraction
    low: Fraction
    high: Fraction


class CorrespondenceResult(Config):
    """``correspondences.json`` of a run. Fractions 0..1, relative paths only."""

    schema_version: Literal[1] = SCHEMA_VERSION
    title: str
    method: str  # the matcher's name
    matcher: str  # with its settings
    backbone: str | None
    weights: str | None
    trained_on: str
    recipe: str
    seed: NonNegativeInt
    image_size: tuple[PositiveInt, PositiveInt]
    methods: tuple[MethodResult, ...]
    identity: tuple[IdentityResult, ...]
    machine: str
    commit: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One method's metrics.

    Attributes:
        name: of the method.
        warp: how far it is off.
        match: of its matches between keypoints; None where it has none.
        marginal_error: how far its transport is from converged, of the median pair; None where it has none.
    """

    name: str
    warp: WarpMetrics
    match: MatchMetrics | None
    marginal_error: float | None = None


def method_results(target: str, pairs: str, own: Measured, others: list[Measured]) -> list[MethodResult]:
    """Results of the matcher and of what it is compared with, on the same pairs."""
    rows = [_result(target, pairs, own)]
    for other in others:
        rng = np.random.default_rng(0)
        gain = Gain.of(margin(own.warp.pck_NT[:, 1], other.warp.pck_NT[:, 1], rng))
        ap_gain = None
        if own.match is not None and other.match is not None:
            ap_gain = Gain.of(margin(own.match.ap_N, other.match.ap_N, rng))
        rows.append(_result(target, pairs, other).model_copy(update={"pck_4px_gain": gain, "ap_gain": ap_gain}))
    return rows


def identity_result(target: str, score: str, score_N: NDArray[np.float32], same_N: NDArray[np.bool_]) -> IdentityResult:
    """How well a score tells N pairs of one person from those of two; see :func:`auc_margin`."""
    chance_N = np.zeros_like(score_N)  # equal scores: an AUC of a half
    over = auc_margin(score_N, chance_N, same_N, np.random.default_rng(0), samples=500)
    num_same = int(same_N.sum())
    auc, low, high = (0.5 + value for value in (over.difference, over.low, over.high))
    return IdentityResult(
        target=target, score=score, num_same=num_same, num_different=len(same_N) - num_same, auc=auc, low=low, high=high
    )


def write_correspondences(path: Path, result: CorrespondenceResult) -> None:
    """Write ``result`` as JSON, atomically. Raises StorageError."""
    write_json(path, result.model_dump(mode="json"))


def read_correspondences(path: Path) -> CorrespondenceResult:
    """Read such a file, or the ``correspondences.json`` of a run folder. Raises CheckpointError, as read_results."""
    file = path / "correspondences.json" if path.is_dir() else path
    return read_stored(CorrespondenceResult, file, SCHEMA_VERSION, "reid correspond")


def _result(target: str, pairs: str, measured: Measured) -> MethodResult:
    warp, match = measured.warp, measured.match
    pck_2px, pck_4px, pck_8px = warp.pck.values()
    return MethodResult(
        target=target,
        pairs=pairs,
        method=measured.name,
        num_pairs=len(warp.mean_px_N),
        mean_px=warp.mean_px,
        median_px=warp.median_px,
        pck_2px=pck_2px,
        pck_4px=pck_4px,
        pck_8px=pck_8px,
        coverage=warp.coverage,
        auc=warp.pooled_auc,
        precision=None if match is None else match.precision,
        recall=None if match is None else match.recall,
        ap=None if match is None else match.mean_ap,
        marginal_error=measured.marginal_error,
    )
