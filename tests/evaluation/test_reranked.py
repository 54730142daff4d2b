import math

import numpy as np
import pytest

from reid.evaluation.metrics import RetrievalMetrics
from reid.evaluation.reranked import Figures, gain, share_of_oracle


def metrics(*ap: float) -> RetrievalMetrics:
    """Of queries with these average precisions; the trapezoid's are others."""
    ap_N = np.array(ap)
    one_N = np.ones(len(ap), dtype=np.int64)
    return RetrievalMetrics(np.array([0.125, 0.5]), ap_N, ap_N / 2, ap_N, one_N, np.arange(len(ap)))


def figures(mean_ap: float) -> Figures:
    return Figures(rank1=0.0, mAP=mean_ap)


def test_figures_are_the_first_rank_and_the_finite_sum():
    assert Figures.of(metrics(0.25, 0.75)) == Figures(rank1=0.125, mAP=0.5)


def test_the_share_is_of_what_a_perfect_order_would_bring():
    assert share_of_oracle(figures(0.25), figures(0.375), figures(0.75)) == 0.25
    assert share_of_oracle(figures(0.25), figures(0.75), figures(0.75)) == 1
    assert share_of_oracle(figures(0.25), figures(0.125), figures(0.75)) == -0.25
    assert share_of_oracle(figures(0.75), figures(0.75), figures(0.75)) is None


def test_the_gain_is_the_mean_difference_of_the_same_queries():
    found = gain(metrics(0.5, 0.25), metrics(0.75, 0.5))
    assert found == {"gain": 0.25, "gain_low": 0.25, "gain_high": 0.25}  # the same for all queries: sure


def test_the_interval_of_the_gain_is_that_of_the_mean_over_queries():
    """Half of the queries gain 0.2, half lose 0.1: mean 0.05, deviation 0.15."""
    num = 400
    found = gain(metrics(*[0.4] * num), metrics(*[0.6, 0.3] * (num // 2)))
    assert found["gain"] == pytest.approx(0.05)
    reach = 1.96 * 0.15 / math.sqrt(num)
    assert found["gain_low"] == pytest.approx(0.05 - reach, abs=0.002)
    assert found["gain_high"] == pytest.approx(0.05 + reach, abs=0.002)
    assert gain(metrics(*[0.4] * num), metrics(*[0.6, 0.3] * (num // 2))) == found
