"""Ranks of the true matches to CMC, mAP and mINP, and how sure one may be that two runs differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid.errors import ProtocolError, ShapeError
from reid.evaluation.ranking import Ranking

MAX_RANK = 50
_BOOTSTRAP_BLOCK = 2**20


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalMetrics:
    """Metrics over the N queries that have a match, all as fractions 0..1, float64.

    Attributes:
        cmc_K: share of queries whose first match is at rank k or better, [MAX_RANK]; ``cmc_K[0]`` is Rank-1.
        ap_N: average precision by the finite sum, the field's default.
        ap_trapezoid_N: average precision as the Market-1501 authors compute it.
        inp_N: inverse negative penalty.
        first_rank_N: rank of the first match, from 1, int64.
        query_idx_N: which queries these are, int64, ascending.
    """

    cmc_K: NDArray[np.float64]
    ap_N: NDArray[np.float64]
    ap_trapezoid_N: NDArray[np.float64]
    inp_N: NDArray[np.float64]
    first_rank_N: NDArray[np.int64]
    query_idx_N: NDArray[np.int64]

    def rank(self, k: int) -> float:
        """Rank-k: share of queries with a match among the first ``k``, 1 <= k <= MAX_RANK."""
        return float(self.cmc_K[k - 1])

    @property
    def mAP(self) -> float:  # noqa: N802
        """Mean average precision by the finite sum."""
        return float(self.ap_N.mean())

    @property
    def mAP_trapezoid(self) -> float:  # noqa: N802
        """Mean average precision by the trapezoid rule."""
        return float(self.ap_trapezoid_N.mean())

    @property
    def mINP(self) -> float:  # noqa: N802
        """Mean inverse negative penalty."""
        return float(self.inp_N.mean())


def retrieval_metrics(ranking: Ranking) -> RetrievalMetrics:
    """Compute all metrics of a ranking; queries without a match are not counted.

    Raises:
        ProtocolError: no query has a match; the message counts the reasons.
    """
    query_idx_N = np.flatnonzero([len(rank_M) > 0 for rank_M in ranking.rank_Q])
    if not len(query_idx_N):
        raise _nothing_to_find(ranking)
    ranks = [ranking.rank_Q[idx] for idx in query_idx_N]
    first_rank_N = np.array([rank_M[0] for rank_M in ranks])
    return RetrievalMetrics(
        cmc_K=(first_rank_N <= np.arange(1, MAX_RANK + 1)[:, None]).mean(axis=1),
        ap_N=np.array([average_precision(rank_M) for rank_M in ranks]),
        ap_trapezoid_N=np.array([average_precision_trapezoid(rank_M) for rank_M in ranks]),
        inp_N=np.array([len(rank_M) / rank_M[-1] for rank_M in ranks]),
        first_rank_N=first_rank_N,
        query_idx_N=query_idx_N,
    )


def average_precision(rank_M: NDArray[np.int64]) -> float:
    """Mean of the precision at each match (finite sum).

    Args:
        rank_M: ranks of all matches of one query, [M], M >= 1, ascending, from 1.
    """
    return float(np.mean(np.arange(1, len(rank_M) + 1) / rank_M))


def average_precision_trapezoid(rank_M: NDArray[np.int64]) -> float:
    """Area under precision over recall by trapezoids: mean of the precisions just before and at each match.

    Args:
        rank_M: as in :func:`average_precision`. Before rank 1 the precision counts as 1.

    Source: the evaluation of Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015.
    """
    found_M = np.arange(1, len(rank_M) + 1)
    before_M = np.where(rank_M == 1, 1.0, (found_M - 1) / np.maximum(rank_M - 1, 1))
    return float(np.mean((before_M + found_M / rank_M) / 2))


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference of two means and its bootstrap interval at ``level``; it is clear where the interval excludes 0."""

    difference: float
    low: float
    high: float
    level: float


def paired_bootstrap(
    a_N: NDArray[np.floating],
    b_N: NDArray[np.floating],
    generator: np.random.Generator,
    *,
    samples: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """How far mean(a) - mean(b) may move if other queries of the same kind had been asked.

    Queries are drawn as if they were independent. Several queries show the same person, so that the interval is
    somewhat too narrow; it says nothing about other seeds of training.

    Args:
        a_N: one value a query, such as ``ap_N`` or ``first_rank_N == 1``, [N].
        b_N: the same of another run on the same queries, [N].
        generator: draws the queries.
        samples: number of draws.
        level: share of the draws inside the interval, 0..1.

    Raises:
        ShapeError: the two are empty or have different numbers of queries.

    Source: percentile bootstrap, Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    if a_N.shape != b_N.shape or a_N.ndim != 1 or not len(a_N):
        raise ShapeError(
            f"paired_bootstrap: wanted one value a query of the same queries from both runs, found {a_N.shape} "
            f"and {b_N.shape}. Compare runs on the same target."
        )
    difference_N = np.asarray(a_N, dtype=np.float64) - np.asarray(b_N, dtype=np.float64)
    num = len(difference_N)
    block = max(1, _BOOTSTRAP_BLOCK // num)
    sizes = [min(block, samples - start) for start in range(0, samples, block)]
    means = [difference_N[generator.integers(num, size=(size, num))].mean(axis=1) for size in sizes]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(difference_N.mean()), float(low), float(high), level)


def _nothing_to_find(ranking: Ranking) -> ProtocolError:
    reasons = ", ".join(f"{count} x {reason}" for reason, count in ranking.unmatched_counts.items())
    return ProtocolError(
        f"evaluation: wanted queries with a match in the gallery, found none among {len(ranking.rank_Q)} ({reasons}). "
        "Check that query and gallery belong to the same data set and that their names are read right (reid data "
        "check); with a single camera, switch the same-camera rule off."
    )
