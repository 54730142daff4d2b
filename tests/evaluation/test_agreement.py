import numpy as np
import pytest
from scipy.stats import rankdata

from reid.errors import ShapeError
from reid.evaluation.agreement import rank_agreement


def test_two_queries_by_hand():
    exact = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0]], dtype=np.float32)
    score = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 4.0, 3.0]], dtype=np.float32)
    found = rank_agreement(score, exact)
    # one pair of neighbours swapped: 1 - 6 * (1 + 1) / (4 * 15) = 0.8
    assert found.spearman == pytest.approx((1 + 0.8) / 2)
    assert found.same_best == 0.5
    assert (found.num_query, found.num_gallery) == (2, 4)


def test_ties_share_their_rank():
    rng = np.random.default_rng(0)
    exact = rng.normal(size=(5, 30)).astype(np.float32)
    score = exact.round(0)
    wanted = [np.corrcoef(rankdata(own), rankdata(other))[0, 1] for own, other in zip(score, exact, strict=True)]
    assert rank_agreement(score, exact).spearman == pytest.approx(np.mean(wanted))


def test_a_query_with_equal_scores_tells_nothing():
    exact = np.array([[1.0, 1.0], [1.0, 2.0]], dtype=np.float32)
    assert rank_agreement(exact, exact).spearman == pytest.approx(1)
    assert rank_agreement(exact[:1], exact[:1]).spearman == pytest.approx(1)


def test_scores_that_collapse_agree_with_nothing():
    exact = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]], dtype=np.float32)
    assert rank_agreement(np.zeros_like(exact), exact).spearman == 0


@pytest.mark.parametrize("shapes", [((2, 3), (3, 2)), ((2, 1), (2, 1)), ((4,), (4,))])
def test_shapes_that_do_not_fit(shapes):
    with pytest.raises(ShapeError, match="rank agreement"):
        rank_agreement(*(np.zeros(shape, dtype=np.float32) for shape in shapes))
