import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.errors import ConfigError, ShapeError
from reid.reranking.expansion import Config, expand, rerank
from tests.reference import expansion as reference


def drawn(seed, num, dim=6):
    return np.random.default_rng(seed).standard_normal((num, dim)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_query=st.integers(0, 12),
    num_gallery=st.integers(0, 11),
    alpha=st.sampled_from([0.0, 1.0, 3.0, 2.5]),
)
def test_equals_the_slow_reference(seed, num_query, num_gallery, alpha):
    query, gallery = drawn(seed, 5), drawn(seed + 1, 12)
    how = Config(num_query_neighbours=num_query, num_gallery_neighbours=num_gallery, alpha=alpha)
    found = rerank(torch.from_numpy(query), torch.from_numpy(gallery), how=how)
    grown = reference.expand(gallery.astype(np.float64), gallery.astype(np.float64), num_gallery, alpha, same=True)
    wanted = reference.expand(query.astype(np.float64), grown, num_query, alpha) @ grown.T
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_by_hand():
    """(1, 0) with its nearest (0.6, 0.8), of cosine 0.6: weight 0.36 at alpha 2."""
    query, gallery = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.6, 0.8], [-1.0, 0.0]])
    wanted = np.array([1 + 0.36 * 0.6, 0.36 * 0.8])
    found = expand(query, gallery, num=1, alpha=2.0)
    np.testing.assert_allclose(found[0], wanted / np.linalg.norm(wanted), rtol=1e-6)
    np.testing.assert_allclose(expand(query, gallery, num=2, alpha=2.0), found, rtol=1e-6)  # the opposite weighs 0


def test_no_neighbours_give_cosines():
    query, gallery = torch.from_numpy(drawn(0, 4)), torch.from_numpy(drawn(1, 9))
    found = rerank(query, gallery, how=Config(num_query_neighbours=0))
    np.testing.assert_allclose(found, torch.cosine_similarity(query[:, None], gallery, dim=2), atol=1e-6)


def test_an_image_of_the_gallery_does_not_join_itself():
    gallery = torch.eye(3)
    gallery[1] = torch.tensor([0.6, 0.8, 0.0])
    found = expand(gallery, None, num=1, alpha=1.0)
    wanted = torch.tensor([1 + 0.6 * 0.6, 0.6 * 0.8, 0.0])
    torch.testing.assert_close(found[0], wanted / wanted.norm())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), block_bytes=st.sampled_from([1, 300, 2000]))
def test_neither_block_size_nor_gallery_order_changes_a_score(seed, block_bytes):
    query, gallery = torch.from_numpy(drawn(seed, 6)), torch.from_numpy(drawn(seed + 1, 20))
    how = Config(num_gallery_neighbours=2)
    found = rerank(query, gallery, how=how)
    np.testing.assert_allclose(rerank(query, gallery, how=how, block_bytes=block_bytes), found, atol=1e-5)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(20))
    np.testing.assert_allclose(rerank(query, gallery[order], how=how), found[:, order], atol=1e-5)


def test_of_equal_cosines_the_earlier_image_joins():
    query = torch.tensor([[1.0, 0.0]])
    gallery = torch.tensor([[0.6, 0.8], [0.6, -0.8], [0.6, 0.8]])
    assert expand(query, gallery, num=1, alpha=1.0)[0, 1] > 0
    assert expand(query, gallery[[1, 0, 2]], num=1, alpha=1.0)[0, 1] < 0


def test_inputs_stay_as_they_are_and_scores_go_where_asked():
    query, gallery = torch.nn.functional.normalize(torch.from_numpy(drawn(0, 4))), torch.from_numpy(drawn(1, 9))
    before = query.clone(), gallery.clone()
    out = np.empty((4, 9), np.float32)
    assert rerank(query, gallery, how=Config(num_gallery_neighbours=2), out=out) is out
    assert torch.equal(query, before[0])
    assert torch.equal(gallery, before[1])
    with pytest.raises(ShapeError, match=r"expansion: wanted an array for scores \[Q, G\] = \[4, 9\]"):
        rerank(query, gallery, out=out[:, :8])


def test_errors_say_what_to_do():
    query, gallery = torch.from_numpy(drawn(0, 4)), torch.from_numpy(drawn(1, 5))
    with pytest.raises(ConfigError, match=r"wanted 6 gallery images to join each image, found 5\. Lower"):
        rerank(query, gallery, how=Config(num_query_neighbours=6))
    with pytest.raises(ConfigError, match="found 4"):  # an image does not join itself
        rerank(query, gallery, how=Config(num_gallery_neighbours=5))
    with pytest.raises(ShapeError, match=r"expansion: wanted finite embeddings.*first query image 2"):
        rerank(query.index_fill(0, torch.tensor([2]), torch.nan), gallery)
    with pytest.raises(ShapeError, match=r"found \[4, 6\] and \[5, 3\]"):
        rerank(query, gallery[:, :3])
