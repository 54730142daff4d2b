import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from reid.errors import ShapeError
from reid.evaluation.baselines import grid_points, identity_matches
from reid.evaluation.keypoint_labels import IGNORED, UNMATCHED, keypoint_labels
from reid.evaluation.keypoint_matches import match_average_precision, match_metrics
from reid.types import Correspondences
from tests.evaluation.truths import found, points, rough, shifted
from tests.reference import correspondences as reference


def labelled(query, gallery, truth, positive_px=3.0, negative_px=5.0):
    """Labels of every pair."""
    return [
        keypoint_labels(*both, truth, pair, positive_px=positive_px, negative_px=negative_px)
        for pair, both in enumerate(zip(query, gallery, strict=True))
    ]


def test_metrics_by_hand():
    """Of four true matches two are found, one goes astray; a found match of an ignored keypoint does not count."""
    truth = shifted(64, 64, 0, 0)
    truth.to_gallery.known_NHW[0, 49:52, 49:52] = False
    query = gallery = points((10, 10), (20, 20), (30, 30), (40, 40), (50, 50))
    one = found(query[[0, 1, 2, 4]].tolist(), gallery[[0, 3, 2, 1]].tolist(), [0.9, 0.8, 0.7, 0.95])
    metrics = match_metrics([one], [query], [gallery], labelled([query], [gallery], truth))
    assert (metrics.num_true_N.tolist(), metrics.num_found_N.tolist()) == ([4], [3])
    assert metrics.precision == pytest.approx(2 / 3)
    assert metrics.recall == pytest.approx(2 / 4)
    assert metrics.mean_ap == pytest.approx((1 / 1 + 2 / 3) / 4)


def test_the_identity_is_perfect_where_nothing_moves():
    centres = grid_points((64, 32), 16).expand(2, -1, -1)
    right = [identity_matches(centres[0], centres[0])] * 2
    metrics = match_metrics(right, centres, centres, labelled(centres, centres, shifted(64, 32, 0, 0, num=2)))
    assert metrics.precision == metrics.recall == metrics.mean_ap == 1.0
    assert metrics.num_true_N.tolist() == [8, 8]


def random_case(rng, num_pairs):
    truth = rough(rng, 10, 8, num=num_pairs, spread=0.2)
    query = torch.from_numpy(rng.random((num_pairs, 6, 2)) * (8, 10)).float()
    gallery = (query + torch.from_numpy(rng.normal(0, 0.5, query.shape)).float())[:, rng.permutation(6)]
    gallery = gallery.clamp(min=0).minimum(torch.tensor([8.0, 10.0]))
    matches = []
    for pair in range(num_pairs):
        partners = rng.permutation(6)[: rng.integers(1, 7)]
        kept = rng.permutation(6)[: len(partners)]
        confidence = rng.integers(0, 4, len(kept)) / 4
        matches.append(found(query[pair][kept].tolist(), gallery[pair][partners].tolist(), confidence.tolist()))
    return matches, query, gallery, truth


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_metrics_equal_slow_loops(seed):
    rng = np.random.default_rng(seed)
    matches, query, gallery, truth = random_case(rng, 2)
    labels = labelled(query, gallery, truth, 1.5, 2.5)
    metrics = match_metrics(matches, query, gallery, labels)
    for pair, one in enumerate(matches):
        wanted = labels[pair].query_K.tolist()
        num_true = sum(label >= 0 for label in wanted)
        hits, scores = [], []
        for start, stop, confidence in zip(one.query_N2, one.gallery_N2, one.confidence_N, strict=True):
            label = wanted[query[pair].tolist().index(start.tolist())]
            if label != IGNORED:
                hits.append(label == gallery[pair].tolist().index(stop.tolist()))
                scores.append(confidence.item())
        np.testing.assert_allclose(metrics.precision_N[pair], sum(hits) / len(hits) if hits else np.nan)
        np.testing.assert_allclose(metrics.recall_N[pair], sum(hits) / num_true if num_true else np.nan)
        ap = reference.average_precision(scores, hits, num_true) if num_true else np.nan
        np.testing.assert_allclose(metrics.ap_N[pair], ap)
        assert np.isnan(ap) or 0 <= metrics.ap_N[pair] <= metrics.recall_N[pair] <= 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_pairs_and_matches_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    matches, query, gallery, truth = random_case(rng, 3)
    order = torch.from_numpy(rng.permutation(3))
    mixed = []
    for one in (matches[pair] for pair in order):
        places = rng.permutation(len(one.query_N2))
        parts = one.query_N2[places], one.gallery_N2[places], one.confidence_N[places]
        mixed.append(Correspondences(*parts, one.kind))
    labels = labelled(query, gallery, truth)
    before = match_metrics(matches, query, gallery, labels)
    after = match_metrics(mixed, query[order], gallery[order], [labels[pair] for pair in order])
    for name in ("precision_N", "recall_N", "ap_N", "num_true_N", "num_found_N"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name)[order.numpy()])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([3, 1000]))
def test_average_precision_equals_scikit_learn_where_all_is_found(seed, levels):
    rng = np.random.default_rng(seed)
    confidence, correct = rng.integers(0, levels, 20).astype(float), rng.random(20) < 0.5
    correct[0] = True
    own = match_average_precision(confidence, correct, int(correct.sum()))
    assert own == pytest.approx(average_precision_score(correct, confidence), abs=1e-12)
    assert match_average_precision(confidence, correct, 40) == pytest.approx(own * correct.sum() / 40, abs=1e-12)


def test_nothing_found_is_no_recall_and_no_precision():
    query = points((5, 5))
    metrics = match_metrics([found([], [])], [query], [query], labelled([query], [query], shifted(16, 16, 0, 0)))
    assert (metrics.precision, metrics.recall, metrics.mean_ap) == (None, 0.0, 0.0)


def test_nothing_to_find_is_not_computed():
    query, gallery = points((5, 5)), points((14, 14))
    one = found([(5, 5)], [(14, 14)])
    metrics = match_metrics([one], [query], [gallery], labelled([query], [gallery], shifted(16, 16, 0, 0)))
    assert (metrics.precision, metrics.recall, metrics.mean_ap) == (0.0, None, None)
    none = match_metrics([], [], [], [])
    assert (none.precision, none.recall, none.mean_ap) == (None, None, None)


def test_no_keypoints():
    truth = shifted(16, 16, 0, 0)
    (labels,) = labelled([points()], [points((5, 5))], truth)
    assert (labels.query_K.tolist(), labels.gallery_L.tolist()) == ([], [UNMATCHED])
    metrics = match_metrics([found([], [])], [points()], [points()], labelled([points()], [points()], truth))
    assert (metrics.precision, metrics.recall) == (None, None)


def test_average_precision_of_others_than_the_found():
    """A threshold has left the best two of three true matches; the ranking still has a wrong one before the third."""
    query = points((5, 5), (20, 5), (35, 5), (50, 5))
    gallery = points((5, 5), (20, 5), (35, 5), (50, 30))
    labels = labelled([query], [gallery], shifted(60, 60, 0, 0))
    assert labels[0].query_K.tolist() == [0, 1, 2, UNMATCHED]
    best = found(query[:2].tolist(), gallery[:2].tolist(), [0.9, 0.8])
    every = found(query[[0, 1, 3, 2]].tolist(), gallery[[0, 1, 3, 2]].tolist(), [0.9, 0.8, 0.3, 0.2])
    metrics = match_metrics([best], [query], [gallery], labels, ranked=[every])
    assert (metrics.precision, metrics.recall) == (1.0, pytest.approx(2 / 3))
    assert metrics.mean_ap == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert match_metrics([best], [query], [gallery], labels).mean_ap == pytest.approx(2 / 3)


def test_what_cannot_be_measured():
    query = [points((5, 5), (9, 9))] * 2
    labels = labelled(query, query, shifted(16, 16, 0, 0, num=2))
    one = found([(5, 5)], [(9, 9)])
    for matches, ranked, number in (([one], None, "1"), ([one] * 3, None, "more"), ([one] * 2, [one], "1")):
        with pytest.raises(ShapeError, match=rf"wanted matches of the 2 pairs whose labels are given, found {number}"):
            match_metrics(matches, query, query, labels, ranked=ranked)
    with pytest.raises(ShapeError, match="found those of 1 query and 2 gallery images"):
        match_metrics([one] * 2, query[:1], query, labels)
    with pytest.raises(ShapeError, match="at most one partner a query keypoint"):
        match_metrics([found([(5, 5), (5, 5)], [(5, 5), (9, 9)])] * 2, query, query, labels)
    with pytest.raises(ShapeError, match=r"found one 1 px from the nearest"):
        match_metrics([found([(5, 6)], [(9, 9)])] * 2, query, query, labels)
    with pytest.raises(ShapeError, match="found one inf px"):
        match_metrics([one] * 2, query, [points()] * 2, labels)
