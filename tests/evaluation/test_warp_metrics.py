import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.errors import ShapeError
from reid.evaluation.warp_metrics import warp_metrics
from reid.nn.truth import TEAR_PX
from reid.types import Correspondences
from tests.evaluation.truths import as_lists, centres, dense, found, rough, shifted
from tests.reference import correspondences as reference

HEIGHT, WIDTH = 6, 4


def test_errors_by_hand():
    """Three positions, all truly shifted by (1, 0): off by 0, by 5 = |(3, 4)|, and by 2."""
    truth = shifted(20, 20, 1, 0).to_gallery
    metrics = warp_metrics([found([(5, 5), (8, 5), (5, 9)], [(6, 5), (12, 9), (6, 11)])], truth)
    assert metrics.mean_px_N == pytest.approx([7 / 3])
    assert metrics.median_px_N == pytest.approx([2])
    np.testing.assert_allclose(metrics.pck_NT, [[2 / 3, 2 / 3, 1]])  # at just 2 px is within 2 px
    assert metrics.pck == {2.0: pytest.approx(2 / 3), 4.0: pytest.approx(2 / 3), 8.0: 1.0}
    assert (metrics.coverage, metrics.pooled_auc) == (1.0, None)


def test_confidences_of_maxima_are_not_compared_between_pairs():
    truth = shifted(20, 20, 1, 0, num=2).to_gallery
    places = [(5, 5), (19.5, 5)], [(6, 5), (19.5, 5)]  # what is at the right border has left the image
    for kind, auc in (("maximum", None), ("warp", 1.0), ("assignment", 1.0)):
        metrics = warp_metrics([found(*places, [0.9, 0.1], kind) for _ in range(2)], truth)
        assert metrics.pooled_auc == auc
        assert metrics.pck[2.0] == 1.0


def test_what_is_hidden_or_not_known_has_no_error():
    truth = shifted(20, 20, 0, 0).to_gallery
    truth.visible_NHW[0, 3, 3] = False
    truth.known_NHW[0, 4, 4] = False
    wrong_where_nobody_looks = [(3.5, 3.5), (4.5, 4.5), (9.5, 9.5)], [(19, 19), (19, 19), (9.5, 10.5)]
    metrics = warp_metrics([found(*wrong_where_nobody_looks, [0.1, 0.9, 0.5])], truth)
    assert metrics.mean_px_N == pytest.approx([1])
    assert metrics.pooled_auc == 1.0  # 0.5 seen above 0.1 hidden; 0.9 is not known


def test_the_truth_itself_is_perfect():
    truth = rough(np.random.default_rng(0), HEIGHT, WIDTH, num=3).to_gallery
    right = [dense(truth, pair, truth.visible_NHW[pair].flatten().float()) for pair in range(3)]
    metrics = warp_metrics(right, truth)
    assert metrics.mean_px == pytest.approx(0, abs=1e-6)
    assert set(metrics.pck.values()) == {1.0}
    assert metrics.pooled_auc == metrics.coverage == 1.0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_metrics_equal_slow_loops(seed):
    rng = np.random.default_rng(seed)
    truth = rough(rng, HEIGHT, WIDTH, num=2, spread=2.0).to_gallery
    predictions = [random_found(rng, rng.integers(1, 9)) for _ in range(2)]
    metrics = warp_metrics(predictions, truth, thresholds_px=(1.0, 3.0))
    all_scores, all_seen = [], []
    for pair, one in enumerate(predictions):
        errors = []
        for query, gallery, confidence in zip(one.query_N2, one.gallery_N2, one.confidence_N, strict=True):
            position, visible, known = reference.truth_at(as_lists(truth, pair), *query.tolist(), TEAR_PX)
            if known:
                all_scores.append(confidence.item())
                all_seen.append(visible)
            if known and visible:
                errors.append(reference.distance(position, gallery.tolist()))
        check(metrics.mean_px_N[pair], errors and sum(errors) / len(errors))
        check(metrics.median_px_N[pair], errors and reference.median(errors))
        for column, limit in enumerate((1.0, 3.0)):
            check(metrics.pck_NT[pair, column], errors and sum(error <= limit for error in errors) / len(errors))
    mixed = 0 < sum(all_seen) < len(all_seen)
    assert metrics.pooled_auc == (pytest.approx(reference.auc(all_scores, all_seen)) if mixed else None)


def check(value, wanted):
    """NaN where there is nothing: an empty list."""
    if wanted == []:
        assert np.isnan(value)
    else:
        assert value == pytest.approx(wanted, abs=1e-5)


def random_found(rng, num):
    """At quarters of a pixel, so that centres, edges and corners come up; confidences with ties."""
    query = rng.integers(0, 4 * np.array([WIDTH, HEIGHT]) + 1, (num, 2)) / 4
    return found(query.tolist(), (query + rng.normal(0, 2, (num, 2))).tolist(), rng.integers(0, 4, num).tolist())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_pairs_and_positions_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    truth = rough(rng, HEIGHT, WIDTH, num=3).to_gallery
    predictions = [random_found(rng, 6) for _ in range(3)]
    order, places = torch.from_numpy(rng.permutation(3)), rng.permutation(6)
    mixed = [
        Correspondences(one.query_N2[places], one.gallery_N2[places], one.confidence_N[places], one.kind)
        for one in (predictions[pair] for pair in order)
    ]
    before = warp_metrics(predictions, truth)
    after = warp_metrics(mixed, truth[order])
    for name in ("mean_px_N", "median_px_N", "pck_NT", "coverage_N"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name)[order.numpy()])
    assert after.mean_px == pytest.approx(before.mean_px, nan_ok=True)


def test_nothing_visible_and_nothing_found_are_not_computed():
    truth = shifted(8, 8, 0, 0, num=3).to_gallery
    truth.visible_NHW[0] = False
    metrics = warp_metrics([found([(2, 2)], [(2, 2)])] + 2 * [found([], [])], truth, at_M2=torch.tensor([[4.0, 4.0]]))
    np.testing.assert_array_equal(metrics.mean_px_N, [np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(metrics.pck_NT[:, 0], [np.nan, 0, 0])
    np.testing.assert_array_equal(metrics.coverage_N, [np.nan, 0, 0])
    assert (metrics.mean_px, metrics.median_px, metrics.pck[2.0], metrics.coverage) == (None, None, 0.0, 0.0)
    empty = warp_metrics([], truth[:0])
    assert (empty.mean_px, empty.pooled_auc, empty.pck[8.0]) == (None, None, None)


def test_methods_are_asked_the_same():
    """One match at (4, 4), right there; it is asked at (5, 4), where it moves along, and at (20, 4), out of reach."""
    truth = shifted(32, 32, 2, 0).to_gallery
    one = found([(4, 4)], [(6, 4)])
    asked = torch.tensor([[5.0, 4.0], [20.0, 4.0]])
    near = warp_metrics([one], truth, at_M2=asked, reach_px=3)
    assert (near.mean_px, near.coverage, near.pck[2.0]) == (0.0, 0.5, 0.5)
    far = warp_metrics([one], truth, at_M2=asked)
    assert (far.mean_px, far.coverage, far.pck[2.0]) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize("point", [(-0.1, 2), (8.1, 2), (2, 8.1), (float("nan"), 2)])
def test_positions_outside_the_image(point):
    with pytest.raises(ShapeError, match="within the 8 x 8 pixels of the truth"):
        warp_metrics([found([point], [(1, 1)])], shifted(8, 8, 0, 0).to_gallery)


def test_numbers_of_pairs_that_differ():
    truth, one = shifted(8, 8, 0, 0, num=2).to_gallery, found([(1, 1)], [(1, 1)])
    for matches, number in (([one], "1"), (3 * [one], "more")):
        with pytest.raises(ShapeError, match=rf"of the 2 pairs whose truth is given, found {number}"):
            warp_metrics(matches, truth)


def test_gradients_and_half_precision_are_taken_as_they_are():
    query = centres(8, 8).reshape(-1, 2)
    one = Correspondences(query, query.clone().requires_grad_(), torch.ones(64, dtype=torch.bfloat16), "warp")
    assert warp_metrics([one], shifted(8, 8, 0, 0).to_gallery).mean_px == 0.0
