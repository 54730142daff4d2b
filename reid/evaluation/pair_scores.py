"""What one number a pair tells, and how sure one may be that two methods differ on the same pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from reid.errors import ShapeError
from reid.evaluation.metrics import Interval, paired_bootstrap


def roc_auc(score_N: ArrayLike, positive_N: ArrayLike) -> float | None:
    """Area under the ROC curve: how often a positive scores above a negative, with half a point for a tie.

    Args:
        score_N: one score each, [N]; may be infinite, but not NaN.
        positive_N: whether it should be high, [N], bool: the same person, or visible.

    Returns:
        0..1, chance is 0.5; None where all are positive, or none is.

    Raises:
        ShapeError: the lengths differ, or a score is NaN.

    Source: Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve, Radiology 1982: the Mann-Whitney
    statistic.
    """
    score_N, positive_N = np.asarray(score_N), np.asarray(positive_N, dtype=bool)
    if score_N.ndim != 1 or score_N.shape != positive_N.shape or np.isnan(score_N).any():
        raise ShapeError(
            f"roc_auc: wanted one score and one label each, no NaN, found {list(score_N.shape)} with "
            f"{np.isnan(score_N).sum()} NaN, and {list(positive_N.shape)}."
        )
    num_positive = int(positive_N.sum())
    num_negative = len(positive_N) - num_positive
    if not num_positive or not num_negative:
        return None
    rank_sum = float(rankdata(score_N)[positive_N].sum())
    return (rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)


def mean_of_known(value_N: NDArray[np.float64]) -> float | None:
    """Mean of what is not NaN; None where all is."""
    known_N = value_N[~np.isnan(value_N)]
    return float(known_N.mean()) if len(known_N) else None


def margin(
    a_N: NDArray[np.float64], b_N: NDArray[np.float64], generator: np.random.Generator, *, level: float = 0.95
) -> Interval | None:
    """How far mean(a) - mean(b) may move if other pairs of the same kind had been asked.

    Args:
        a_N: one value a pair, such as ``ap_N`` or ``mean_px_N``, [N]; NaN where there was nothing to measure.
        b_N: the same of another method on the same pairs, [N]. Pairs that either could not measure are left out.
        generator: draws the pairs.
        level: share of the draws inside the interval, 0..1.

    Returns:
        the interval; None where no pair has both values.

    Raises:
        ShapeError: the numbers of pairs differ.

    Source: :func:`~reid.evaluation.metrics.paired_bootstrap`, with pairs for queries: pairs are drawn as if they were
    independent, and several show the same person.
    """
    if a_N.shape != b_N.shape:
        raise ShapeError(f"margin: wanted values of the same pairs, found {len(a_N)} and {len(b_N)}.")
    both_N = ~(np.isnan(a_N) | np.isnan(b_N))
    if not both_N.any():
        return None
    return paired_bootstrap(a_N[both_N], b_N[both_N], generator, level=level)


def auc_margin(
    a_N: NDArray[np.floating],
    b_N: NDArray[np.floating],
    positive_N: NDArray[np.bool_],
    generator: np.random.Generator,
    *,
    samples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """How far the ROC-AUC of scores a is above that of scores b, and how far that may move with other pairs.

    Args:
        a_N: one score a pair, [N].
        b_N: the same of another method on the same pairs, [N].
        positive_N: whether a pair shows one person, [N].
        generator: draws positive and negative pairs apart, as many as there are of each.
        samples: number of draws.
        level: share of the draws inside the interval, 0..1.

    Raises:
        ShapeError: as :func:`roc_auc`; or all pairs are positive, or none is.

    Source: percentile bootstrap in two strata, Efron and Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    positive_P, negative_M = np.flatnonzero(positive_N), np.flatnonzero(~positive_N)

    def difference(drawn_N: NDArray[np.int64]) -> float:
        one, two = (roc_auc(score_N[drawn_N], positive_N[drawn_N]) for score_N in (a_N, b_N))
        if one is None or two is None:
            raise ShapeError("auc_margin: wanted pairs of the same and of different persons, found one kind only.")
        return one - two

    observed = difference(np.arange(len(positive_N)))
    draws = [
        difference(np.concatenate([generator.choice(idx_N, len(idx_N)) for idx_N in (positive_P, negative_M)]))
        for _ in range(samples)
    ]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(observed, float(low), float(high), level)
