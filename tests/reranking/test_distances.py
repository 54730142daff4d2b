import numpy as np
import pytest
import torch

from reid.reranking._distances import EmbeddingDistances, MatrixDistances
from reid.reranking._neighbours import neighbours
from tests.reference.k_reciprocal import euclidean, full_distances


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
