from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.errors import ConfigError, ShapeError
from reid.evaluation.judge import Judge
from reid.evaluation.labels import Labels, Truth
from reid.evaluation.ranking import top_k
from reid.evaluation.scoring import Scoring
from reid.evaluation.shortlist import (
    fused,
    gallery_digest,
    perfect_order,
    place_above,
    propose,
    put_back,
    rescore,
    shuffled_order,
)
from reid.types import ImageRecord, ImageState


def images(num, *, source="a"):
    return [ImageRecord(Path(f"/data/{number}.jpg"), number % 3, number % 2, source=source) for number in range(num)]


SCORE = np.array([[0.1, 0.9, 0.5, 0.9, 0.3], [-5.0, -1.0, -2.0, -3.0, -4.0]], dtype=np.float32)


def state(*values):
    return ImageState({"x": torch.tensor(values)})


def test_a_shortlist_is_the_head_of_the_ranking():
    found = propose(SCORE, 3, images(5))
    assert found.gallery_idx_QK.tolist() == [[1, 3, 2], [1, 2, 3]]
    np.testing.assert_array_equal(found.score_QK, np.float32([[0.9, 0.9, 0.5], [-1, -2, -3]]))


def test_a_shortlist_longer_than_the_gallery_is_an_error():
    with pytest.raises(ConfigError, match=r"top_k = 6: wanted at most the 5 images"):
        propose(SCORE, 6, images(5))


def test_a_shortlist_of_another_gallery_is_an_error():
    found = propose(SCORE, 3, images(5))
    found.refuse_other(images(5))
    for other in (images(4), images(5)[::-1]):
        with pytest.raises(ShapeError, match="in the same order"):
            found.refuse_other(other)
    assert gallery_digest(images(5)) == gallery_digest(images(5, source="b"))


def tree(root, *names):
    return [ImageRecord(Path(root, name), 1) for name in names]


def test_galleries_of_the_same_file_names_are_told_apart():
    one = gallery_digest(tree("/data", "set/gallery/3/1.jpg", "set/gallery/4/1.jpg"))
    for other in (("set/gallery/4/1.jpg", "set/gallery/3/1.jpg"), ("set/query/3/1.jpg", "set/query/4/1.jpg")):
        assert gallery_digest(tree("/data", *other)) != one
    assert gallery_digest(tree("/mnt/elsewhere", "set/gallery/3/1.jpg", "set/gallery/4/1.jpg")) == one


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(2, 12), st.data(), st.integers(0, 999))
def test_the_tail_stays_below_in_its_order(num_query, num_gallery, data, seed):
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, num_gallery))
    score = rng.normal(size=(num_query, num_gallery)).astype(np.float32) * 10.0 ** data.draw(st.integers(-3, 3))
    before = score.copy()
    shortlist = propose(score, k, images(num_gallery))
    order = rng.integers(0, 3, size=(num_query, k)).astype(np.float32)
    place_above(score, shortlist, order)
    after = top_k(score, num_gallery)
    for row in range(num_query):
        listed = shortlist.gallery_idx_QK[row]
        wanted = sorted(range(k), key=lambda place: (-order[row, place], listed[place]))
        assert after[row, :k].tolist() == [listed[place] for place in wanted]
        assert after[row, k:].tolist() == top_k(before, num_gallery)[row, k:].tolist()
    put_back(score, shortlist)
    np.testing.assert_array_equal(score, before)


def test_rescoring_looks_at_shortlisted_pairs_only():
    asked = []

    def difference(query, gallery):
        asked.append((query["x"].tolist(), gallery["x"].tolist()))
        return -(query["x"][:, None] - gallery["x"]).abs()

    shortlist = propose(SCORE, 2, images(5))
    found = rescore(difference, state(1.0, 2.0), state(10.0, 11.0, 12.0, 13.0, 14.0), shortlist, images(5))
    assert found.tolist() == [[-10.0, -12.0], [-9.0, -10.0]]
    assert asked == [([1.0], [11.0, 13.0]), ([2.0], [11.0, 12.0])]


def test_rescoring_takes_as_many_at_a_time_as_memory_allows():
    sizes = []

    def product(query, gallery):
        sizes.append(len(gallery))
        return query["x"][:, None] * gallery["x"]

    shortlist, query, gallery = propose(SCORE, 3, images(5)), state(1.0, 2.0), state(10.0, 11.0, 12.0, 13.0, 14.0)
    found = rescore(product, query, gallery, shortlist, images(5), how=Scoring(max_memory=12 * 2 * 4))
    assert found.tolist() == [[11.0, 13.0, 12.0], [22.0, 24.0, 26.0]]
    assert sizes == [2, 1, 2, 1]
    with pytest.raises(ConfigError, match="wanted room for blocks of at least one image"):
        rescore(product, query, gallery, shortlist, images(5), how=Scoring(max_memory=12))


def test_rescoring_refuses_other_images_and_scores_that_are_no_numbers():
    shortlist = propose(SCORE, 2, images(5))
    gallery = state(10.0, 11.0, torch.nan, 13.0, 14.0)
    with pytest.raises(ShapeError, match="2 queries, found 1"):
        rescore(lambda q, g: g["x"][None], state(1.0), gallery, shortlist, images(5))
    with pytest.raises(ShapeError, match="wanted the gallery it was made from, in the same order, found another"):
        rescore(lambda q, g: g["x"][None], state(1.0, 2.0), gallery, shortlist, images(5)[::-1])
    with pytest.raises(ShapeError, match="wanted states of the 5 gallery images, found 4"):
        rescore(lambda q, g: g["x"][None], state(1.0, 2.0), gallery[:4], shortlist, images(5))
    with pytest.raises(ShapeError, match="found nan for query image 1 and gallery image 2"):
        rescore(lambda q, g: g["x"][None], state(1.0, 2.0), gallery, shortlist, images(5))


def test_fusion_by_hand():
    first, second = np.float32([[1.0, 3.0]]), np.float32([[70.0, 30.0]])
    np.testing.assert_allclose(fused(first, second, 1.0), [[-1, 1]])
    np.testing.assert_allclose(fused(first, second, 0.0), [[1, -1]])
    np.testing.assert_allclose(fused(first, second, 0.25), [[0.5, -0.5]])
    np.testing.assert_allclose(fused(np.float32([[2.0, 2.0]]), second, 0.5), [[0.5, -0.5]])  # all alike: says nothing


def test_the_perfect_order_puts_matches_first():
    query, gallery = images(2), images(5)  # pids 0, 1 in cameras 0, 1; gallery pids 0 1 2 0 1
    truth = Truth(Labels.of(query), Labels.of(gallery))
    shortlist = propose(SCORE, 3, gallery)  # 1 3 2 and 1 2 3
    # image 3 shows pid 0 in camera 1; image 1 is of the query's own camera
    assert perfect_order(shortlist, truth).tolist() == [[0, 1, 0], [0, 0, 0]]


def test_the_shuffled_order_is_by_the_generator():
    shortlist = propose(SCORE, 3, images(5))
    one, two = (shuffled_order(shortlist, np.random.default_rng(seed)) for seed in (0, 0))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (2, 3)
    assert not np.array_equal(one, shuffled_order(shortlist, np.random.default_rng(1)))


def test_the_shuffled_order_knows_nothing():
    """One of four shortlisted images matches: at rank 1 to 4 equally often, the expected AP is 25 / 48."""
    query = [ImageRecord(Path("q.jpg"), 1, 0)] * 4000
    gallery = [ImageRecord(Path(f"{number}.jpg"), pid, 1) for number, pid in enumerate((0, 1, 0, 0))]
    score_QG = np.tile(np.float32([4, 3, 2, 1]), (4000, 1))
    shortlist = propose(score_QG, 4, gallery)
    order_QK = shuffled_order(shortlist, np.random.default_rng(0))
    rank_Q = (order_QK > order_QK[:, 1:2]).sum(1) + 1  # of gallery image 1, which is the list's second
    assert (np.bincount(rank_Q, minlength=5)[1:] / 4000).tolist() == pytest.approx([0.25] * 4, abs=0.03)
    judge = Judge(score_QG, Labels.of(query), Labels.of(gallery), same_camera=True)
    assert judge.reordered(shortlist, order_QK).figures.mAP == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, abs=0.02)
