import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.reranking._distances import EmbeddingDistances
from reid.reranking._neighbours import neighbours, smallest


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


def test_equal_images_can_be_divided_by_their_largest_distance():
    same = torch.ones(3, 2)
    assert neighbours(EmbeddingDistances(same, same, squared=True), 2).largest_N.tolist() == [1.0] * 6
