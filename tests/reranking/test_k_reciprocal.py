import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.sparse import csr_array, vstack

from reid.errors import ConfigError, ShapeError
from reid.reranking._distances import EmbeddingDistances
from reid.reranking._neighbours import neighbours
from reid.reranking._sparse import Overlaps, encoded, expanded_sets, locally_expanded
from reid.reranking.k_reciprocal import Config, rerank_distances, rerank_embeddings
from tests.reference import k_reciprocal as reference
from tests.reference.golden import Golden

CASES = ("small_k5", "default_k20", "asym_pair_matcher", "k2_1")
FORMS = ("published", "released")


TOLERANCE = {"published": 1e-5, "released": 5e-3}  # a sum in float16 depends on its order


def drawn(seed, num_query, num_gallery, dim=8):
    """Embeddings around a few centres, split; of quarters, so that squared distances are exact, and some tie."""
    rng = np.random.default_rng(seed)
    centre_CD = rng.standard_normal((max(2, (num_query + num_gallery) // 6), dim))
    embedding_ND = centre_CD[rng.integers(len(centre_CD), size=num_query + num_gallery)]
    embedding_ND = np.round(4 * (embedding_ND + 0.6 * rng.standard_normal(embedding_ND.shape))).astype(np.float32) / 4
    return embedding_ND[:num_query], embedding_ND[num_query:]


def by_reference(query, gallery, how):
    return reference.rerank(
        reference.euclidean(query, gallery),
        reference.euclidean(query, query),
        reference.euclidean(gallery, gallery),
        *(how.k1, how.k2, how.distance_weight),
        released=how.form == "released",
    )


def ours(query, gallery, how, **options):
    return rerank_embeddings(torch.from_numpy(query), torch.from_numpy(gallery), how=how, **options)


def matrices(seed, num_query, num_gallery, levels=0):
    """Distances that are not symmetric, all different; ``levels`` > 0: so many values that most of them tie."""
    rng = np.random.default_rng(seed)
    num = num_query + num_gallery
    whole_NN = rng.integers(levels, size=(num, num)) if levels else rng.permutation(num * num).reshape(num, num)
    whole_NN = whole_NN.astype(np.float32) / 4
    return whole_NN[:num_query, num_query:], whole_NN[:num_query, :num_query], whole_NN[num_query:, num_query:]


def ours_of(given, how, **options):
    return rerank_distances(given[0], given[1], gallery_gallery_GG=given[2], how=how, **options)


def test_golden_distances_and_jaccard():
    """The three programs that square distances agree; the fourth rounds to float16 on its way, and so do we."""
    golden = Golden("rerank")
    for case in CASES:
        k1, k2, weight, num_query = golden.array(f"{case}/k1_k2_lambda_nq").tolist()
        given = [golden.array(f"{case}/{name}") for name in ("q_g", "q_q", "g_g")]
        assert given[0].shape[0] == num_query
        how = Config(k1=int(k1), k2=int(k2), distance_weight=weight)
        for program in ("zhong_original", "torchreid", "fastreid_distmat"):
            np.testing.assert_allclose(-ours_of(given, how), golden.array(f"{case}/{program}"), rtol=0, atol=1e-6)
        released = ours_of(given, how.model_copy(update={"form": "released"}))
        np.testing.assert_array_equal(-released, golden.array(f"{case}/qaconv_official_fp16"))
    compare_jaccard(golden["fastreid_jaccard/features"], golden.array("fastreid_jaccard/jaccard_k20_k6"))
    golden.check_all_used({})


def compare_jaccard(feature_ND, wanted_NN):
    """That program lists k1 images with the image itself among them, and does not divide by the largest distance."""
    num = len(feature_ND)
    distances = EmbeddingDistances(feature_ND[: num // 2], feature_ND[num // 2 :], squared=True)
    idx_NK = neighbours(distances, 20).idx_NK
    weight_NN = encoded(expanded_sets(idx_NK, 11), distances, np.ones(num, np.float32), "float32")
    weight_NN = locally_expanded(weight_NN, idx_NK[:, :6], "float32")
    twice = csr_array(vstack([weight_NN, weight_NN]))  # everyone is a query, and everyone is in the gallery
    shared_NN = Overlaps(twice, num, "float32").block(0, num)
    np.testing.assert_allclose(1 - shared_NN / (2 - shared_NN), wanted_NN, rtol=0, atol=2e-6)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    k1=st.integers(1, 12),
    k2=st.integers(1, 13),
    weight=st.sampled_from([0.0, 0.3, 1.0]),
    form=st.sampled_from(FORMS),
)
def test_embeddings_equal_the_dense_reference(seed, k1, k2, weight, form):
    how = Config(k1=k1, k2=min(k2, k1 + 1), distance_weight=weight, form=form)
    query, gallery = drawn(seed, 9, 40)
    wanted = by_reference(query, gallery, how)
    np.testing.assert_allclose(-ours(query, gallery, how), wanted, rtol=0, atol=TOLERANCE[form])


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6), levels=st.sampled_from([0, 2, 6]), k1=st.integers(1, 10), form=st.sampled_from(FORMS)
)
def test_distances_equal_the_dense_reference_ties_included(seed, levels, k1, form):
    how = Config(k1=k1, k2=min(3, k1 + 1), form=form)
    given_ = matrices(seed, 7, 30, levels)
    wanted = reference.rerank(*given_, how.k1, how.k2, how.distance_weight, released=form == "released")
    np.testing.assert_allclose(-ours_of(given_, how), wanted, rtol=0, atol=TOLERANCE[form])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), block_bytes=st.sampled_from([1, 700, 3000]), form=st.sampled_from(FORMS))
def test_the_block_size_changes_nothing(seed, block_bytes, form):
    how = Config(k1=6, k2=3, form=form)
    parts = drawn(seed, 8, 30, dim=3)
    np.testing.assert_array_equal(ours(*parts, how, block_bytes=block_bytes), ours(*parts, how))
    given_ = matrices(seed, 8, 30)
    np.testing.assert_array_equal(ours_of(given_, how, block_bytes=block_bytes), ours_of(given_, how))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), form=st.sampled_from(FORMS))
def test_the_order_of_an_untied_gallery_changes_nothing(seed, form):
    how = Config(k1=6, k2=3, form=form)
    query_gallery, query_query, gallery_gallery = matrices(seed, 8, 30)
    order = np.random.default_rng(seed).permutation(30)
    found = ours_of((query_gallery, query_query, gallery_gallery), how)
    turned = ours_of((query_gallery[:, order], query_query, gallery_gallery[np.ix_(order, order)]), how)
    np.testing.assert_allclose(turned, found[:, order], rtol=0, atol=TOLERANCE[form])


@pytest.mark.parametrize("form", FORMS)
def test_both_entries_agree(form):
    query, gallery = drawn(3, 15, 60)
    how = Config(k1=8, k2=3, form=form)
    given_ = [reference.euclidean(*pair) for pair in ((query, gallery), (query, query), (gallery, gallery))]
    np.testing.assert_allclose(ours(query, gallery, how), ours_of(given_, how), rtol=0, atol=TOLERANCE[form])


def test_by_hand():
    """Images at 0 and 1 (queries), 0 and 3 (gallery), k1 = 1: only the two at 0 name each other.

    k1 = 1 lists the image itself and one more: {q0, g0} share all, q1's and g1's sets are themselves.
    """
    query, gallery = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]])
    found = rerank_embeddings(query, gallery, how=Config(k1=1, k2=1, distance_weight=0.5))
    wanted = [[0.0, 0.5 + 0.5], [0.5 + 0.5 * 1 / 4, 0.5 + 0.5]]  # squared, over the row's largest: 9 and 4
    np.testing.assert_allclose(-found, wanted, atol=1e-6)


def test_without_the_encodings_distances_are_the_first_ones_over_the_largest():
    query, gallery = drawn(5, 6, 30)
    everybody = np.concatenate([query, gallery])
    wanted = reference.euclidean(query, gallery) / reference.euclidean(query, everybody).max(1, keepdims=True)
    np.testing.assert_allclose(-ours(query, gallery, Config(distance_weight=1.0)), wanted**2, rtol=1e-5, atol=1e-7)


def test_scores_are_within_their_range_and_repeatable():
    query, gallery = drawn(6, 10, 50)
    first, second = (ours(query, gallery, Config()) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float32
    assert -1 <= first.min() <= first.max() <= 0


def test_identical_images_stay_finite():
    found = ours(np.ones((3, 4), np.float32), np.ones((30, 4), np.float32), Config())
    assert np.isfinite(found).all()


def test_images_that_nobody_names_stay_finite():
    """Distances whose diagonal is the largest leave sets empty."""
    given_ = matrices(2, 5, 25)
    for square in given_[1:]:
        np.fill_diagonal(square, 9.0)
    found = ours_of(given_, Config(k1=2, k2=2))
    assert np.isfinite(found).all()
    wanted = reference.rerank(*given_, 2, 2, 0.3)
    np.testing.assert_allclose(-found, wanted, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken_and_inputs_stay_as_they_are(dtype):
    query, gallery = (torch.from_numpy(part).to(dtype) for part in drawn(1, 4, 30))
    before = query.clone(), gallery.clone()
    found = rerank_embeddings(query, gallery)
    np.testing.assert_array_equal(found, rerank_embeddings(query.float(), gallery.float()))
    assert torch.equal(query, before[0])
    assert torch.equal(gallery, before[1])
    given_ = matrices(0, 4, 30)
    copies = [matrix.copy() for matrix in given_]
    ours_of(given_, Config())
    for matrix, copy in zip(given_, copies, strict=True):
        np.testing.assert_array_equal(matrix, copy)


def test_scores_go_where_they_are_asked_to(tmp_path):
    query, gallery = drawn(2, 6, 30)
    out = np.memmap(tmp_path / "scores", dtype=np.float32, mode="w+", shape=(6, 30))
    assert ours(query, gallery, Config(), out=out) is out
    np.testing.assert_array_equal(out, ours(query, gallery, Config()))
    for wrong in (np.empty((6, 29), np.float32), np.empty((6, 30), np.float64)):
        with pytest.raises(ShapeError, match=r"wanted an array for scores \[Q, G\] = \[6, 30\], float32"):
            ours(query, gallery, Config(), out=wrong)


def test_a_gallery_smaller_than_k1_says_what_to_do():
    with pytest.raises(ConfigError, match=r"at least k1 = 20 images, found 19\. Lower k1"):
        ours(*drawn(0, 40, 19), Config())


def test_k2_reaches_no_further_than_the_lists():
    with pytest.raises(ValidationError, match="k2 of at most k1 \\+ 1 = 6, found 7"):
        Config(k1=5, k2=7)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_say_where(value):
    query, gallery = drawn(0, 4, 30)
    gallery[17, 2] = value
    with pytest.raises(ShapeError, match="found NaN or infinity in 1 of them, first gallery image 17"):
        ours(query, gallery, Config())


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5])
def test_distances_that_are_none_say_where(value):
    given_ = matrices(0, 4, 30)
    given_[2][3, 5] = value
    with pytest.raises(ShapeError, match=r"finite distances of at least 0.*images 0 to 33.*1 - sigmoid"):
        ours_of(given_, Config())


def test_shapes_that_do_not_fit():
    query, gallery = drawn(0, 4, 30)
    with pytest.raises(ShapeError, match=r"found \[4, 8\] and \[30, 7\]"):
        ours(query, np.ascontiguousarray(gallery[:, :7]), Config())
    with pytest.raises(ShapeError, match="at least one image each"):
        ours(query[:0], gallery, Config())
    with pytest.raises(ShapeError, match=r"floating-point query embeddings, found torch\.int64"):
        rerank_embeddings(torch.ones(4, 8, dtype=torch.int64), torch.from_numpy(gallery))
    given_ = matrices(0, 4, 30)
    with pytest.raises(ShapeError, match=r"found \[4, 30\], \[30, 30\], \[4, 4\]"):
        ours_of([given_[0], given_[2], given_[1]], Config())
