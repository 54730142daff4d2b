"""How well scores of half-precision states agree with those of full precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from reid.errors import ShapeError


@dataclass(frozen=True, slots=True)
class RankAgreement:
    """Of two score matrices of the same pairs.

    Attributes:
        spearman: mean over queries of the rank correlation over the gallery, -1..1; ties share their mean rank.
        same_best: share of queries whose best gallery image is the same, 0..1.
        num_query: queries compared.
        num_gallery: gallery images compared.
    """

    spearman: float
    same_best: float
    num_query: int
    num_gallery: int


def rank_agreement(score_QG: NDArray[np.float32], exact_QG: NDArray[np.float32]) -> RankAgreement:
    """Compare how two score matrices rank the gallery of each query.

    A query whose exact scores are all equal has no order to keep and is left out; where only its other scores are all
    equal, its order is lost: 0.

    Raises:
        ShapeError: the shapes differ, or there are fewer than two gallery images.
    """
    if score_QG.shape != exact_QG.shape or score_QG.ndim != 2 or score_QG.shape[1] < 2:
        raise ShapeError(
            f"rank agreement: wanted two score matrices [Q, G] of one shape, G at least 2, found "
            f"{list(score_QG.shape)} and {list(exact_QG.shape)}."
        )
    telling = [(own, exact) for own, exact in zip(score_QG, exact_QG, strict=True) if np.ptp(exact)]
    correlations = [float(spearmanr(own, exact).statistic) if np.ptp(own) else 0.0 for own, exact in telling]
    same_best = score_QG.argmax(1) == exact_QG.argmax(1)
    return RankAgreement(
        spearman=float(np.mean(correlations)) if telling else 1.0,
        same_best=float(same_best.mean()),
        num_query=score_QG.shape[0],
        num_gallery=score_QG.shape[1],
    )
