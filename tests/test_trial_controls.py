"""The controls beside a second stage: what a perfect and a random order of its shortlist would give."""

import numpy as np
import pytest

from reid.evaluate import evaluate
from reid.pipeline import Pipeline


def test_a_random_order_is_worth_what_chance_says(made, session):
    """Of 15 gallery images junk (2) and the query's own camera (1) go: one match at rank 1 to 12, equally often."""
    first, second = made("first", matcher={"name": "embedding", "stride": 8}, stage=[]), made("second", stage=[])
    (target,) = evaluate(first, session, pipeline=Pipeline(first, second, 15, "replace"))[0].targets
    ap_N = 1 / np.arange(1, 13)
    error = ap_N.std() / np.sqrt(target.num_query)
    assert target.reranked.shuffled.mAP == pytest.approx(ap_N.mean(), abs=3 * error)
    assert target.reranked.shuffled.rank1 <= 0.5
    assert target.reranked.oracle.mAP == target.reranked.oracle.rank1 == 1
