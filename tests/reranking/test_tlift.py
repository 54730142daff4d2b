import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.errors import ShapeError
from reid.reranking import _pivots
from reid.reranking import tlift as module
from reid.reranking._sightings import Sightings
from reid.reranking.tlift import Config, tlift
from tests.reference.golden import Golden
from tests.reference.tlift import tlift as reference

SETS = ("default", "f64", "sparse_time")


def drawn(seed, num_query=12, num_gallery=60, cameras=4, levels=0):
    """Scores, query and gallery; ``levels`` > 0: that many different scores, so that most of them tie."""
    rng = np.random.default_rng(seed)
    shape = (num_query, num_gallery)
    score_QG = (rng.integers(levels, size=shape) / 4 if levels else rng.random(shape)).astype(np.float32)
    query, gallery = (
        Sightings(rng.integers(cameras, size=num), np.round(rng.random(num) * 500, 1))
        for num in (num_query, num_gallery)
    )
    return score_QG, query, gallery


def by_reference(score_QG, query, gallery, how):
    return reference(
        *(score_QG, query.camid_N, query.time_s_N, gallery.camid_N, gallery.time_s_N),
        tau=how.tau_s,
        sigma=how.sigma_s,
        num_pivots=how.num_pivots,
        alpha=how.alpha,
    )


def test_golden():
    golden = Golden("tlift")
    for name in SETS:
        tau, sigma, num_pivots, alpha = golden.array(f"{name}/tau_sigma_K_alpha").tolist()
        how = Config(tau_s=tau, sigma_s=sigma, num_pivots=int(num_pivots), alpha=alpha)
        score_QG = golden.array(f"{name}/score")
        query, gallery = (
            Sightings(golden.array(f"{name}/{side}_cam"), golden.array(f"{name}/{side}_time")) for side in ("p", "g")
        )
        found = tlift(score_QG, query, gallery=gallery, how=how)
        assert found.dtype == score_QG.dtype
        atol = 1e-12 if name == "f64" else 1e-6
        np.testing.assert_allclose(found, golden.array(f"{name}/out"), rtol=0, atol=atol)
    golden.check_all_used({})


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    levels=st.sampled_from([0, 1, 3]),
    num_gallery=st.integers(1, 60),
    tau=st.sampled_from([0.1, 40.0, 1e4]),
    num_pivots=st.sampled_from([1, 4, 30]),
)
def test_equals_the_loops_ties_included(seed, levels, num_gallery, tau, num_pivots):
    """Cameras without gallery images, and with fewer than K, come up with small galleries."""
    score_QG, query, gallery = drawn(seed, num_gallery=num_gallery, levels=levels)
    how = Config(tau_s=tau, sigma_s=50.0, num_pivots=num_pivots, alpha=0.1)
    found = tlift(score_QG, query, gallery=gallery, how=how)
    np.testing.assert_allclose(found, by_reference(score_QG, query, gallery, how), rtol=0, atol=2e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_gallery_and_queries_changes_nothing(seed):
    score_QG, query, gallery = drawn(seed)
    rng = np.random.default_rng(seed)
    rows, columns = rng.permutation(len(query)), rng.permutation(len(gallery))
    found = tlift(score_QG, query, gallery=gallery)
    turned = tlift(
        score_QG[np.ix_(rows, columns)],
        Sightings(query.camid_N[rows], query.time_s_N[rows]),
        gallery=Sightings(gallery.camid_N[columns], gallery.time_s_N[columns]),
    )
    np.testing.assert_allclose(turned, found[np.ix_(rows, columns)], rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.sampled_from([-1e6, 3e8]))
def test_the_clock_may_start_anywhere(seed, shift):
    score_QG, query, gallery = drawn(seed)
    moved = [Sightings(side.camid_N, side.time_s_N + shift) for side in (query, gallery)]
    found = tlift(score_QG, moved[0], gallery=moved[1], how=Config(tau_s=99.95))
    np.testing.assert_allclose(found, tlift(score_QG, query, gallery=gallery, how=Config(tau_s=99.95)), rtol=1e-5)


def test_block_sizes_change_nothing(monkeypatch):
    score_QG, query, gallery = drawn(1, num_query=30, num_gallery=200)
    found = tlift(score_QG, query, gallery=gallery)
    monkeypatch.setattr(_pivots, "SCORE_BYTES", 5000)
    monkeypatch.setattr(module, "_CLOSENESS_BYTES", 1)
    np.testing.assert_allclose(tlift(score_QG, query, gallery=gallery), found, rtol=1e-6)


def test_by_hand():
    """One query, K = 1, two cameras: the best image of each camera is the pivot of that camera."""
    score_QG = np.array([[0.9, 0.5, 0.2, 0.8]])
    gallery = Sightings(np.array([0, 0, 2, 2]), np.array([0.0, 10.0, 100.0, 110.0]))
    how = Config(sigma_s=10.0, num_pivots=1, alpha=0.5)
    found = tlift(score_QG, Sightings(np.array([1]), np.array([5.0])), gallery=gallery, how=how)
    near = np.exp(-1) + 0.5
    np.testing.assert_allclose(found, [[0.9 * 1.5, 0.5 * near, 0.2 * near, 0.8 * 1.5]])


def test_queries_of_one_camera_at_one_time_share_pivots():
    score_QG = np.array([[0.9, 0.1], [0.2, 0.3]])
    gallery = Sightings(np.array([0, 0]), np.array([0.0, 10.0]))
    how = Config(tau_s=5.0, sigma_s=10.0, num_pivots=1, alpha=0.0)
    together = Sightings(np.array([1, 1]), np.array([0.0, 4.9]))
    apart = Sightings(np.array([1, 1]), np.array([0.0, 5.0]))
    assert tlift(score_QG, together, gallery=gallery, how=how)[1] == pytest.approx([0.2, 0.3 * np.exp(-1)])
    assert tlift(score_QG, apart, gallery=gallery, how=how)[1] == pytest.approx([0.2 * np.exp(-1), 0.3])


def test_result_goes_where_it_is_asked_to_and_scores_stay():
    score_QG, query, gallery = drawn(0)
    before, out = score_QG.copy(), np.empty_like(score_QG)
    assert tlift(score_QG, query, gallery=gallery, out=out) is out
    np.testing.assert_array_equal(score_QG, before)
    np.testing.assert_array_equal(out, tlift(score_QG, query, gallery=gallery))
    with pytest.raises(ShapeError, match="another array for the result"):
        tlift(score_QG, query, gallery=gallery, out=score_QG)
    with pytest.raises(ShapeError, match=r"wanted an array for scores \[Q, G\] = \[12, 60\], float32"):
        tlift(score_QG, query, gallery=gallery, out=np.empty((12, 60)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1])
def test_scores_that_cannot_be_raised(value):
    score_QG, query, gallery = drawn(0)
    score_QG[3, 4] = value
    with pytest.raises(ShapeError, match=r"finite scores of at least 0.*1 - distance"):
        tlift(score_QG, query, gallery=gallery)


def test_shapes_that_do_not_fit():
    score_QG, query, gallery = drawn(0)
    with pytest.raises(ShapeError, match=r"\[Q, G\] = \[12, 60\], found \[12, 59\]"):
        tlift(score_QG[:, :59], query, gallery=gallery)
