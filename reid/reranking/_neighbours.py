"""Exact nearest neighbours among Q + G images, a block of rows at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reid.progress import Progress, Silent
from reid.reranking._arrays import BLOCK_BYTES, blocks
from reid.reranking._distances import Distances


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """What one pass over all rows leaves behind.

    Attributes:
        idx_NK: the K nearest images of each, nearest first; of equal distances, the earlier image first. int32.
        largest_N: the largest distance of each row, float32; 1 where all are 0, so that it can be divided by.
    """

    idx_NK: NDArray[np.int32]
    largest_N: NDArray[np.float32]


def neighbours(
    distances: Distances, k: int, *, block_bytes: int = BLOCK_BYTES, progress: Progress | None = None
) -> Neighbours:
    """Find every image's ``k`` nearest among all images, itself included.

    Args:
        distances: of N images.
        k: how many, 1 to N.
        block_bytes: distances that are looked at together.
        progress: where images/s and the time left are shown.
    """
    num = distances.num_images
    idx_NK = np.empty((num, k), dtype=np.int32)
    largest_N = np.empty(num, dtype=np.float32)
    with (progress or Silent()).bar("neighbours", num, "image") as bar:
        for start, stop in blocks(num, 4 * num, block_bytes):
            distance_BN = distances.block(start, stop)
            idx_NK[start:stop] = smallest(distance_BN, k).cpu().numpy()
            largest_N[start:stop] = distance_BN.amax(1).cpu().numpy()
            bar.advance(stop - start)
    largest_N[largest_N == 0] = 1
    return Neighbours(idx_NK, largest_N)


def smallest(value_BN: Tensor, k: int) -> Tensor:
    """Index of the ``k`` smallest values of each row, ascending; of equal values, the earlier first. [B, k], int64."""
    num = value_BN.shape[1]
    found = value_BN.topk(min(k + 1, num), dim=1, largest=False)
    idx_BK = found.indices[:, :k].sort(dim=1).values
    idx_BK = idx_BK.gather(1, value_BN.gather(1, idx_BK).argsort(dim=1, stable=True))
    if num > k:  # a tie across the border: topk took any of the equal ones
        for row in (found.values[:, k - 1] == found.values[:, k]).nonzero()[:, 0].tolist():
            candidate_C = (value_BN[row] <= found.values[row, k - 1]).nonzero()[:, 0]
            idx_BK[row] = candidate_C[value_BN[row, candidate_C].argsort(stable=True)[:k]]
    return idx_BK
