import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.errors import ShapeError
from reid.reranking._neighbours import EmbeddingDistances, MatrixDistances, blocks, neighbours, score_array, smallest
from tests.reference.k_reciprocal import euclidean, full_distances


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([1, 2, 5, 1000]), data=st.data())
def test_smallest_is_a_stable_sort_ties_included(seed, levels, data):
    num = data.draw(st.integers(1, 40))
    k = data.draw(st.integers(1, num))
    value_BN = np.random.default_rng(seed).integers(levels, size=(5, num)).astype(np.float32)
    found = smallest(torch.from_numpy(value_BN), k)
    np.testing.assert_array_equal(found, np.argsort(value_BN, axis=1, kind="stable")[:, :k])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), block_bytes=st.sampled_from([1, 500, 10**6]), squared=st.booleans())
def test_neighbours_of_embeddings(seed, block_bytes, squared):
    """Whole numbers: distances are exact and tie often."""
    embedding_ND = np.random.default_rng(seed).integers(-3, 4, size=(30, 3)).astype(np.float32)
    parts = torch.from_numpy(embedding_ND[:8]), torch.from_numpy(embedding_ND[8:])
    found = neighbours(EmbeddingDistances(*parts, squared=squared), 7, block_bytes=block_bytes)
    distance_NN = ((embedding_ND[:, None] - embedding_ND) ** 2).sum(2)
    np.testing.assert_array_equal(found.idx_NK, np.argsort(distance_NN, axis=1, kind="stable")[:, :7])
    largest_N = distance_NN.max(1) if squared else np.sqrt(distance_NN.max(1))
    np.testing.assert_array_equal(found.largest_N, largest_N)


@pytest.mark.parametrize("squared", [False, True])
def test_rows_of_given_distances_are_columns_of_the_joined_matrix(squared):
    rng = np.random.default_rng(0)
    given_ = [rng.random(shape).astype(np.float32) for shape in ((4, 9), (4, 4), (9, 9))]
    distances = MatrixDistances(*given_, squared=squared)
    largest_N = neighbours(distances, 3).largest_N
    wanted_NN = full_distances(*given_, squared)
    for start, stop in ((0, 13), (0, 4), (4, 13), (2, 6), (7, 8)):
        block_BN = distances.block(start, stop).numpy() / largest_N[start:stop, None]
        np.testing.assert_array_equal(block_BN, wanted_NN[start:stop])
        np.testing.assert_array_equal(distances.block(start, stop, 4), distances.block(start, stop)[:, 4:])
    row_P, column_P = (index.ravel() for index in np.indices((13, 13)))
    np.testing.assert_array_equal(distances.pairs(row_P, column_P) / largest_N[row_P], wanted_NN.ravel())


@pytest.mark.parametrize("squared", [False, True])
def test_embedding_distances_are_euclidean(squared):
    embedding_ND = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
    parts = torch.from_numpy(embedding_ND[:5]), torch.from_numpy(embedding_ND[5:])
    distances = EmbeddingDistances(*parts, squared=squared)
    wanted_NN = euclidean(embedding_ND, embedding_ND) ** (2 if squared else 1)
    np.fill_diagonal(wanted_NN, 0)
    np.testing.assert_allclose(distances.block(3, 17, 2), wanted_NN[3:17, 2:], atol=1e-5)
    np.testing.assert_array_equal(distances.block(0, 20).diagonal(), 0)
    row_P, column_P = np.array([0, 19, 4, 5]), np.array([7, 2, 4, 6])
    np.testing.assert_allclose(distances.pairs(row_P, column_P), wanted_NN[row_P, column_P], atol=1e-5)


def test_equal_images_can_be_divided_by_their_largest_distance():
    same = torch.ones(3, 2)
    assert neighbours(EmbeddingDistances(same, same, squared=True), 2).largest_N.tolist() == [1.0] * 6


@given(num=st.integers(0, 50), row_bytes=st.integers(1, 100), block_bytes=st.integers(1, 1000))
def test_blocks_cover_all_rows_within_the_bytes(num, row_bytes, block_bytes):
    parts = list(blocks(num, row_bytes, block_bytes))
    assert [row for start, stop in parts for row in range(start, stop)] == list(range(num))
    assert all((stop - start) * row_bytes <= max(block_bytes, row_bytes) for start, stop in parts)


def test_given_arrays_are_used_as_they_are():
    out = np.zeros((2, 3), np.float32)
    assert score_array("here", (2, 3), out, np.float32) is out
    with pytest.raises(ShapeError, match=r"here: wanted an array for scores.*found \[2, 3\], float32"):
        score_array("here", (2, 3), out, np.float64)
