import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from reid.errors import ShapeError
from reid.evaluation.metrics import paired_bootstrap
from reid.evaluation.pair_scores import auc_margin, margin, mean_of_known, roc_auc
from tests.reference import correspondences as reference


def test_auc_by_hand():
    """Of the 2 x 2 pairs two are in the right order, one is tied, one is wrong."""
    assert roc_auc([0.9, 0.3, 0.3, 0.5], [True, True, False, False]) == pytest.approx(2.5 / 4)


def test_auc_of_one_class_is_not_computed():
    assert roc_auc([1.0, 2.0], [True, True]) is None
    assert roc_auc([1.0, 2.0], [False, False]) is None
    assert roc_auc([], []) is None


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([2, 5, 1000]))
def test_auc_equals_scikit_learn_and_slow_loops(seed, levels):
    rng = np.random.default_rng(seed)
    score_N, positive_N = rng.integers(0, levels, 30) / levels, rng.random(30) < 0.4
    positive_N[:2] = True, False
    found = roc_auc(score_N, positive_N)
    assert found == pytest.approx(roc_auc_score(positive_N, score_N), abs=1e-12)
    assert found == pytest.approx(reference.auc(score_N, positive_N), abs=1e-12)
    order = rng.permutation(30)
    assert roc_auc(score_N[order], positive_N[order]) == pytest.approx(found, abs=1e-12)
    assert roc_auc(-score_N, positive_N) == pytest.approx(1 - found, abs=1e-12)


def test_infinite_scores_are_the_least_and_the_most():
    assert roc_auc([-np.inf, 0.0, np.inf], [False, True, True]) == 1.0
    assert roc_auc([-np.inf, -np.inf], [False, True]) == 0.5


@pytest.mark.parametrize(("score", "positive"), [([1.0], [True, False]), ([np.nan, 1.0], [True, False])])
def test_scores_that_cannot_be_compared(score, positive):
    with pytest.raises(ShapeError, match="roc_auc: wanted one score and one label each"):
        roc_auc(score, positive)


def test_means_leave_out_what_is_not_there():
    assert mean_of_known(np.array([1.0, np.nan, 3.0])) == 2.0
    assert mean_of_known(np.array([np.nan])) is None
    assert mean_of_known(np.array([])) is None


def test_a_margin_is_over_pairs_that_both_could_measure():
    a, b = np.array([1.0, np.nan, 0.5, 0.7]), np.array([0.5, 0.1, np.nan, 0.4])
    found = margin(a, b, np.random.default_rng(0))
    assert found == paired_bootstrap(a[[0, 3]], b[[0, 3]], np.random.default_rng(0))
    assert found.difference == pytest.approx(0.4)
    assert found.low == pytest.approx(0.3)
    assert found.high == pytest.approx(0.5)


def test_where_no_pair_has_both_values_there_is_no_margin():
    assert margin(np.array([np.nan, 1.0]), np.array([1.0, np.nan]), np.random.default_rng(0)) is None


def test_margins_that_cannot_be_taken():
    rng = np.random.default_rng(0)
    with pytest.raises(ShapeError, match="values of the same pairs, found 1 and 2"):
        margin(np.ones(1), np.ones(2), rng)
    with pytest.raises(ShapeError, match="one kind only"):
        auc_margin(np.ones(3), np.ones(3), np.ones(3, dtype=bool), rng)


def test_an_auc_margin_covers_what_chance_does():
    rng = np.random.default_rng(0)
    same_N = np.arange(200) < 80
    good_N, bad_N = same_N + rng.normal(0, 0.5, 200), rng.normal(0, 1, 200)
    ahead = auc_margin(good_N, bad_N, same_N, rng, samples=300)
    assert ahead.difference == pytest.approx(roc_auc(good_N, same_N) - roc_auc(bad_N, same_N))
    assert 0 < ahead.low < ahead.difference < ahead.high <= 1
    level = auc_margin(good_N, 3 * good_N + 1, same_N, rng, samples=50)  # the same order
    assert (level.low, level.difference, level.high) == (0, 0, 0)
    back = auc_margin(bad_N, good_N, same_N, rng, samples=300)
    assert back.difference == -ahead.difference
    assert back.high < 0


def test_an_auc_margin_has_the_spread_that_theory_says():
    """Hanley and McNeil's standard error for two independent scores of chance, 100 against 100: about 0.041 each."""
    rng = np.random.default_rng(1)
    same_N = np.arange(200) < 100
    found = auc_margin(rng.normal(size=200), rng.normal(size=200), same_N, rng, samples=1000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.041 * 2**0.5, rel=0.2)
