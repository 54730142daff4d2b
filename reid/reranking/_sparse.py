"""Sets and weights of neighbours as sparse rows: memory grows with N * k, not with N * N."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from reid.reranking._distances import Distances

Precision = Literal["float16", "float32"]


def reciprocal_sets(idx_NK: NDArray[np.int32]) -> csr_array:
    """Row i holds 1 for every image j that is among the neighbours of i while i is among those of j. [N, N], int32.

    Args:
        idx_NK: each image's neighbours.
    """
    listed_NN = _listed(idx_NK, np.dtype(np.int32))
    both_NN: csr_array = listed_NN.multiply(listed_NN.T.tocsr()).tocsr()
    return both_NN


def expanded_sets(idx_NK: NDArray[np.int32], num_half: int) -> csr_array:
    """Reciprocal sets, joined by those of their members that lie mostly within them. [N, N], values mean nothing.

    The half-sized set of a member joins if more than two thirds of it are there already, as in the authors' code; the
    paper says at least two thirds.

    Args:
        idx_NK: each image's neighbours, nearest first.
        num_half: how many of them make the half-sized set.

    Source: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017, eq. 3 and 4.
    """
    full_NN = reciprocal_sets(idx_NK)
    half_NN = reciprocal_sets(idx_NK[:, :num_half])
    shared_NN = (full_NN @ half_NN.T.tocsr()).multiply(full_NN).tocoo()
    size_N = np.diff(half_NN.indptr)
    joins_P = 3 * shared_NN.data > 2 * size_N[shared_NN.col]
    pair = (shared_NN.data[joins_P], (shared_NN.row[joins_P], shared_NN.col[joins_P]))
    expanded_NN: csr_array = (full_NN + csr_array(pair, shape=full_NN.shape) @ half_NN).tocsr()
    expanded_NN.sort_indices()
    return expanded_NN


def encoded(set_NN: csr_array, distances: Distances, largest_N: NDArray[np.float32], precision: Precision) -> csr_array:
    """Weights ``exp(-distance)`` within each image's set, of sum 1. [N, N], float32.

    Args:
        set_NN: whom to weigh.
        distances: among the N images.
        largest_N: what a row's distances are divided by.
        precision: what weights are rounded to.

    Source: Zhong et al., CVPR 2017, eq. 7; there the sum is not divided by, in the authors' code it is.
    """
    count_N = np.diff(set_NN.indptr)
    row_P = np.repeat(np.arange(len(count_N)), count_N)
    weight_P = np.exp(-(distances.pairs(row_P, set_NN.indices) / largest_N[row_P]))
    total_N = np.bincount(row_P, weight_P, minlength=len(count_N)).astype(np.float32)
    return _rounded(csr_array((weight_P / total_N[row_P], set_NN.indices, set_NN.indptr), set_NN.shape), precision)


def locally_expanded(weight_NN: csr_array, idx_NK: NDArray[np.int32], precision: Precision) -> csr_array:
    """Mean of the weights of each image's neighbours. [N, N], float32.

    Args:
        weight_NN: every image's weights.
        idx_NK: the neighbours to take the mean of; the image itself is one of them as a rule.
        precision: what weights are rounded to.

    Source: Zhong et al., CVPR 2017, eq. 11, local query expansion.
    """
    mean_NN = _listed(idx_NK, np.dtype(np.float32)) @ weight_NN
    mean_NN.data /= np.float32(idx_NK.shape[1])
    mean_NN.sort_indices()
    return _rounded(mean_NN, precision)


class Overlaps:
    """How much of their weights two images share: the sum over all images of the smaller of both weights.

    Args:
        weight_NN: every image's weights, queries first.
        num_query: how many of the images are queries.
        precision: what sums are kept in.

    Source: Zhong et al., CVPR 2017, eq. 10, the numerator.
    """

    def __init__(self, weight_NN: csr_array, num_query: int, precision: Precision) -> None:
        self._query_QN = weight_NN[:num_query]
        self._column_GN = weight_NN[num_query:].tocsc()  # by column: who among the gallery gives weight to image n
        self._query_weight_W = self._query_QN.data.astype(precision)
        self._gallery_weight_W = self._column_GN.data.astype(precision)
        self._precision = precision

    def block(self, start: int, stop: int) -> NDArray[np.floating]:
        """Of queries ``start`` to ``stop`` with all gallery images, [B, G], 0..1, in the precision asked for."""
        shared_BG = np.zeros((stop - start, self._column_GN.shape[0]), dtype=self._precision)
        for row_G, query_idx in zip(shared_BG, range(start, stop), strict=True):
            self._add(row_G, query_idx)
        return shared_BG

    def _add(self, row_G: NDArray[np.floating], query_idx: int) -> None:
        first, last = self._query_QN.indptr[query_idx : query_idx + 2]
        image_W, weight_W, starts = self._column_GN.indices, self._gallery_weight_W, self._column_GN.indptr
        for at in range(first, last):
            image = self._query_QN.indices[at]
            column = slice(starts[image], starts[image + 1])
            row_G[image_W[column]] += np.minimum(weight_W[column], self._query_weight_W[at])


def _listed(idx_NK: NDArray[np.int32], dtype: np.dtype[np.generic]) -> csr_array:
    num, k = idx_NK.shape
    indptr = np.arange(0, num * k + 1, k)
    return csr_array((np.ones(num * k, dtype=dtype), idx_NK.ravel(), indptr), shape=(num, num))


def _rounded(weight_NN: csr_array, precision: Precision) -> csr_array:
    weight_NN.data = weight_NN.data.astype(precision).astype(np.float32)
    return weight_NN
