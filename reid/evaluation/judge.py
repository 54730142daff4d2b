"""What orders of a gallery are worth: as scored, and with a shortlist put into another order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid.evaluation.labels import Labels, Truth
from reid.evaluation.metrics import RetrievalMetrics, retrieval_metrics
from reid.evaluation.ranking import Ranking, rank_matches
from reid.evaluation.reranked import Figures
from reid.evaluation.shortlist import Shortlist, place_above, put_back


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """Of one order: ranks of the true matches, and the metrics they come to."""

    ranking: Ranking
    metrics: RetrievalMetrics

    @property
    def figures(self) -> Figures:
        """Rank-1 and mAP."""
        return Figures.of(self.metrics)


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """Knows who is in which image.

    Attributes:
        score_QG: scores, [Q, G]; changed while another order is judged, and put back unless that is to stay.
        query: labels of the Q rows.
        gallery: labels of the G columns.
        same_camera: whether images of the query's own camera are left out, where cameras are known.
    """

    score_QG: NDArray[np.float32]
    query: Labels
    gallery: Labels
    same_camera: bool

    @property
    def truth(self) -> Truth:
        """Matches and removed images of every query."""
        return Truth(self.query, self.gallery, camera_rule=self.same_camera)

    def as_scored(self) -> Verdict:
        """Of the scores as they are."""
        ranking = rank_matches(self.score_QG, self.query, self.gallery, camera_rule=self.same_camera)
        return Verdict(ranking, retrieval_metrics(ranking))

    def reordered(self, shortlist: Shortlist, order_QK: NDArray[np.float32], *, keep: bool = False) -> Verdict:
        """Of the scores with a shortlist put into another order.

        Args:
            shortlist: taken from the scores.
            order_QK: higher = further up, [Q, K].
            keep: leave the scores in that order.
        """
        place_above(self.score_QG, shortlist, order_QK)
        verdict = self.as_scored()
        if not keep:
            put_back(self.score_QG, shortlist)
        return verdict
