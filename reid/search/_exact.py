"""The highest dot products, found block by block: no matrix of all scores is ever there."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid.errors import ShapeError
from reid.evaluation.ranking import top_k

QUERY_BLOCK = 256
"""Queries that are compared together."""

BLOCK_BYTES = 2**24
"""Scores of such a block."""

Best = tuple[NDArray[np.int64], NDArray[np.float32]]
"""(gallery_idx_QK, score_QK), best first."""


def best_products(query_QD: Tensor, gallery_GD: Tensor, k: int) -> Best:
    """The ``k`` gallery vectors with the highest dot products; of equal ones, the earlier first.

    Args:
        query_QD: [Q, D], float32, finite.
        gallery_GD: [G, D], float32, finite, G at least ``k``.
        k: how many.

    Raises:
        ShapeError: a product overflows.
    """
    idx_QK = np.full((len(query_QD), k), -1, dtype=np.int64)
    score_QK = np.full((len(query_QD), k), -np.inf, dtype=np.float32)
    columns = BLOCK_BYTES // (4 * QUERY_BLOCK)
    for row, column in product(range(0, len(query_QD), QUERY_BLOCK), range(0, len(gallery_GD), columns)):
        rows = slice(row, row + QUERY_BLOCK)
        score_qg = (query_QD[rows] @ gallery_GD[column : column + columns].T).numpy()
        if not np.isfinite(score_qg).all():
            raise ShapeError(
                "search: wanted embeddings whose dot products are finite, found some that overflow. Normalise them."
            )
        _merge(idx_QK[rows], score_QK[rows], score_qg, column)
    return idx_QK, score_QK


def _merge(idx_QK: NDArray[np.int64], score_QK: NDArray[np.float32], score_QG: NDArray[np.float32], first: int) -> None:
    """Take in, in place, what of a block belongs to the best; the block begins with gallery image ``first``."""
    k = score_QK.shape[1]
    for idx_K, score_K, score_G in zip(idx_QK, score_QK, score_QG, strict=True):
        new_N = np.flatnonzero(score_G > score_K[-1])  # who only equals the last stands behind it
        if len(new_N):
            score_N = np.concatenate((score_K, score_G[new_N]))
            kept_K = top_k(torch.from_numpy(score_N)[None], k)[0]
            idx_K[:] = np.concatenate((idx_K, first + new_N))[kept_K]
            score_K[:] = score_N[kept_K]
