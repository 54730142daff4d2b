import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.errors import ShapeError
from reid.evaluation import ranking as ranking_module
from reid.evaluation.ranking import rank_matches, top_k
from tests.evaluation.builders import drawn_images, labels, labels_of
from tests.reference.metrics import match_ranks, ranked_hits


def drawn(seed: int, levels: int = 0):
    """A query, a gallery and scores; ``levels`` > 0: that many different values, so that most scores tie."""
    rng = np.random.default_rng(seed)
    query, gallery = drawn_images(rng, int(rng.integers(1, 8))), drawn_images(rng, int(rng.integers(1, 40)))
    shape = (len(query), len(gallery))
    score_QG = rng.integers(levels, size=shape) / 4 - 1 if levels else rng.standard_normal(shape)
    return query, gallery, score_QG.astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([0, 1, 2, 5]), camera_rule=st.booleans())
def test_ranks_equal_the_slow_reference_ties_included(seed, levels, camera_rule):
    query, gallery, score_QG = drawn(seed, levels)
    found = rank_matches(score_QG, labels_of(query), labels_of(gallery), camera_rule=camera_rule)
    for idx, image in enumerate(query):
        hits = ranked_hits(score_QG[idx].tolist(), image, gallery, camera_rule)
        assert found.rank_Q[idx].tolist() == match_ranks(hits)
        assert found.num_kept_Q[idx] == len(hits)
        assert (idx in found.unmatched) == (not any(hits))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_rising_function_of_the_scores_changes_nothing(seed):
    query, gallery, score_QG = drawn(seed)
    before = rank_matches(score_QG, labels_of(query), labels_of(gallery))
    after = rank_matches(np.exp(score_QG.astype(np.float64) / 3) - 5, labels_of(query), labels_of(gallery))
    assert [ranks.tolist() for ranks in before.rank_Q] == [ranks.tolist() for ranks in after.rank_Q]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_an_untied_gallery_changes_nothing(seed):
    query, gallery, score_QG = drawn(seed)
    order = np.random.default_rng(seed + 1).permutation(len(gallery))
    before = rank_matches(score_QG, labels_of(query), labels_of(gallery))
    after = rank_matches(score_QG[:, order], labels_of(query), labels_of([gallery[idx] for idx in order]))
    assert [ranks.tolist() for ranks in before.rank_Q] == [ranks.tolist() for ranks in after.rank_Q]


def test_equal_scores_keep_gallery_order():
    ranking = rank_matches(np.ones((1, 4), np.float32), labels([1], [0]), labels([2, 1, 3, 1], [1, 1, 1, 1]))
    assert ranking.rank_Q[0].tolist() == [2, 4]


@pytest.mark.parametrize("block_bytes", [1, 100, 2**22])
def test_blocks_change_nothing(monkeypatch, block_bytes):
    query, gallery, score_QG = drawn(5)
    expected = [
        match_ranks(ranked_hits(row.tolist(), image, gallery)) for row, image in zip(score_QG, query, strict=True)
    ]
    monkeypatch.setattr(ranking_module, "BLOCK_BYTES", block_bytes)
    found = rank_matches(score_QG, labels_of(query), labels_of(gallery))
    assert [ranks.tolist() for ranks in found.rank_Q] == expected


@pytest.mark.parametrize("kind", ["float16", "float64", "torch", "bfloat16", "memory map", "strided"])
def test_every_kind_of_scores(kind, tmp_path):
    query, gallery = labels([1, 2], [0, 0]), labels([2, 1, 2], [1, 1, 1])
    score_QG = np.array([[0.5, 0.25, 1.0], [3.0, 2.0, 1.0]], np.float32)
    if kind in {"float16", "float64"}:
        score_QG = score_QG.astype(kind)
    elif kind == "strided":
        score_QG = np.repeat(score_QG.T, 2, axis=0)[::2].T
    elif kind == "memory map":
        np.save(tmp_path / "scores.npy", score_QG)
        score_QG = np.load(tmp_path / "scores.npy", mmap_mode="r")
    else:
        score_QG = torch.from_numpy(score_QG).to(torch.bfloat16 if kind == "bfloat16" else torch.float32)
    assert [ranks.tolist() for ranks in rank_matches(score_QG, query, gallery).rank_Q] == [[3], [1, 3]]


def test_scores_are_left_as_they_were():
    score_QG = np.arange(4, dtype=np.float32).reshape(1, 4)
    for scores in (score_QG, torch.from_numpy(score_QG)):
        rank_matches(
            scores, labels([1], [0]), labels([1, 1, -1, 2], [0, 1, 0, 0], ["person", "person", "junk", "person"])
        )
    assert score_QG.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_an_error_with_its_place(value):
    score_QG = np.zeros((3, 4), np.float32)
    score_QG[1, 2] = value
    with pytest.raises(ShapeError, match="query image 1 and gallery image 2"):
        rank_matches(score_QG, labels([1, 1, 1], [0, 0, 0]), labels([1, 2, 3, 4], [1, 1, 1, 1]))


def test_the_score_of_a_removed_image_does_not_matter():
    score_QG = np.array([[np.nan, np.nan, 1.0, 0.0]], np.float32)
    gallery = labels([-1, 1, 2, 1], [0, 0, 0, 1], ["junk", "person", "person", "person"])
    assert rank_matches(score_QG, labels([1], [0]), gallery).rank_Q[0].tolist() == [2]


@pytest.mark.parametrize(
    ("score_QG", "message"),
    [(np.zeros((2, 3), np.float32), r"\[1, 3\]"), (np.zeros(3, np.float32), "found"), (np.zeros((1, 3), int), "int64")],
)
def test_scores_that_do_not_fit_are_an_error(score_QG, message):
    with pytest.raises(ShapeError, match=message):
        rank_matches(score_QG, labels([1], [0]), labels([1, 2, 3], [1, 1, 1]))


def test_unmatched_queries_are_counted_by_reason():
    ranking = rank_matches(np.zeros((4, 2), np.float32), labels([1, 5, 6, 2], [0, 0, 0, 1]), labels([1, 2], [1, 1]))
    assert ranking.unmatched_counts == {
        "no gallery image of this identity": 2,
        "only gallery images of the same camera": 1,
    }
    assert [len(ranks) for ranks in ranking.rank_Q] == [1, 0, 0, 0]


def test_memory_stays_far_below_the_scores(tmp_path, monkeypatch):
    monkeypatch.setattr(ranking_module, "BLOCK_BYTES", 2**18)
    num_query, num_gallery = 600, 20_000
    rng = np.random.default_rng(0)
    score_QG = np.lib.format.open_memmap(tmp_path / "s.npy", "w+", np.float32, (num_query, num_gallery))
    score_QG[:] = rng.random((num_query, num_gallery), dtype=np.float32)
    query = labels(rng.integers(500, size=num_query).tolist(), [0] * num_query)
    gallery = labels(rng.integers(500, size=num_gallery).tolist(), [1] * num_gallery)
    tracemalloc.start()
    rank_matches(score_QG, query, gallery)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    two_blocks = 2 * ranking_module.BLOCK_BYTES * torch.get_num_threads()
    assert peak_bytes < two_blocks + 2**22 < score_QG.nbytes


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([0, 2]), k=st.integers(1, 12))
def test_top_k_is_the_head_of_a_stable_sort(seed, levels, k):
    _, gallery, score_QG = drawn(seed, levels)
    removed = [np.flatnonzero(row > 0.5) for row in score_QG]
    found = top_k(score_QG, k, removed)
    for row, score_G in enumerate(score_QG.tolist()):
        order = sorted(set(range(len(gallery))) - set(removed[row].tolist()), key=lambda idx: (-score_G[idx], idx))
        assert found[row].tolist() == (order + [-1] * k)[:k]


def test_top_k_refuses_what_it_cannot_do():
    with pytest.raises(ShapeError, match="k = 0"):
        top_k(np.zeros((2, 3), np.float32), 0)
    with pytest.raises(ShapeError, match="found k = 1 and 1"):
        top_k(np.zeros((2, 3), np.float32), 1, [np.array([0])])
