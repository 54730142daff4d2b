"""What a second stage changed: between the first stage alone and a perfect order of what it proposed."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from reid.config import Config
from reid.evaluation.metrics import RetrievalMetrics, paired_bootstrap

SEED = 0  # of the bootstrap, so that the same results print the same intervals

Fraction = Annotated[float, Field(ge=0, le=1)]
Difference = Annotated[float, Field(ge=-1, le=1)]


class Figures(Config):
    """Of one order of the gallery."""

    rank1: Fraction
    mAP: Fraction  # finite sum

    @classmethod
    def of(cls, metrics: RetrievalMetrics) -> Figures:
        """The two figures of all metrics."""
        return cls(rank1=metrics.rank(1), mAP=metrics.mAP)


class Reranked(Config):
    """One target, re-ranked; the target's own metrics are those of the new order."""

    top_k: PositiveInt | None  # images a query that were put in order; None: the whole gallery
    fusion: str | None = None  # how both stages' scores came together; None: only the second's count
    weight: Fraction | None = None  # of the first stage's scores, from a validation split
    first: Figures  # the first stage alone
    oracle: Figures | None = None  # a perfect order of the shortlist; None: there is no shortlist
    shuffled: Figures | None = None  # the shortlist in random order
    gain: Difference  # of mAP over the first stage, mean over queries
    gain_low: Difference  # 95 % interval of a paired bootstrap over queries
    gain_high: Difference
    share_of_oracle: float | None = None  # of the gain that a perfect order would bring; None: there is none to bring
    rescore_s: NonNegativeFloat  # seconds spent in the second stage


def gain(before: RetrievalMetrics, after: RetrievalMetrics) -> dict[str, float]:
    """``gain``, ``gain_low`` and ``gain_high`` of :class:`Reranked`. Source: see :func:`paired_bootstrap`."""
    found = paired_bootstrap(after.ap_N, before.ap_N, np.random.default_rng(SEED))
    return {"gain": found.difference, "gain_low": found.low, "gain_high": found.high}


def share_of_oracle(first: Figures, second: Figures, oracle: Figures) -> float | None:
    """Part of the gain in mAP that a perfect order would bring; None where that is nothing."""
    possible = oracle.mAP - first.mAP
    return (second.mAP - first.mAP) / possible if possible > 0 else None
