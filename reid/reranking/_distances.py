"""Distances among Q + G images, a block of rows at a time: no N x N matrix of ours ever exists.

N = Q + G images are counted queries first. A row of distances belongs to one image and has one column for each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid.errors import ShapeError
from reid.reranking._arrays import Floats, blocks, check_embeddings

PAIR_BYTES = 2**22
"""Embeddings of single pairs that are gathered together; caches should hold them."""


class Distances(ABC):
    """Where the distances among all images come from.

    Attributes:
        num_query, num_gallery: images of either side.
        squared: whether distances are squared.
    """

    num_query: int
    num_gallery: int
    squared: bool

    @property
    def num_images(self) -> int:
        """N = Q + G."""
        return self.num_query + self.num_gallery

    @abstractmethod
    def block(self, start: int, stop: int, first_column: int = 0) -> Tensor:
        """Rows ``start`` to ``stop`` from ``first_column`` on, [B, N - first_column], float32.

        It may be changed; the next call overwrites it.

        Raises:
            ShapeError: a distance is negative or not finite.
        """

    @abstractmethod
    def pairs(self, row_P: NDArray[np.integer], column_P: NDArray[np.integer]) -> NDArray[np.float32]:
        """Single distances, [P], float32; as :meth:`block` has them, to rounding."""


class EmbeddingDistances(Distances):
    """Euclidean distances, computed when they are asked for, on the embeddings' device.

    Args:
        query_QD: embeddings, [Q, D], any floating dtype.
        gallery_GD: embeddings, [G, D], on the same device.
        squared: as the name says.

    Raises:
        ShapeError: the shapes do not fit, there are no images, or a value is not finite.
    """

    def __init__(self, query_QD: Tensor, gallery_GD: Tensor, *, squared: bool) -> None:
        check_embeddings("k_reciprocal", query_QD, gallery_GD)
        self.num_query, self.num_gallery, self.squared = len(query_QD), len(gallery_GD), squared
        self._embedding_ND = torch.cat([query_QD.detach().float(), gallery_GD.detach().float()])
        self._norm_N = self._embedding_ND.square().sum(1)
        self._buffer = self._norm_N.new_empty(0)  # fresh memory for every block would cost as much as a pass over it

    def block(self, start: int, stop: int, first_column: int = 0) -> Tensor:
        """See :meth:`Distances.block`; an image's distance from itself is 0."""
        rows_BD, columns_MD = self._embedding_ND[start:stop], self._embedding_ND[first_column:]
        if self._buffer.numel() < len(rows_BD) * len(columns_MD):
            self._buffer = self._norm_N.new_empty(len(rows_BD) * len(columns_MD))
        distance_BM = self._buffer[: len(rows_BD) * len(columns_MD)].view(len(rows_BD), len(columns_MD))
        torch.addmm(self._norm_N[first_column:], rows_BD, columns_MD.T, alpha=-2, out=distance_BM)
        distance_BM.add_(self._norm_N[start:stop, None]).clamp_min_(0)
        if start >= first_column:
            distance_BM.diagonal(start - first_column).zero_()
        return distance_BM if self.squared else distance_BM.sqrt_()

    def pairs(self, row_P: NDArray[np.integer], column_P: NDArray[np.integer]) -> NDArray[np.float32]:
        """See :meth:`Distances.pairs`."""
        distance_P = np.empty(len(row_P), dtype=np.float32)
        for start, stop in blocks(len(row_P), 8 * self._embedding_ND.shape[1], PAIR_BYTES):
            part = slice(start, stop)
            row_S, column_S = (torch.from_numpy(idx_P[part].astype(np.int64)) for idx_P in (row_P, column_P))
            device = self._embedding_ND.device
            difference_SD = self._embedding_ND[row_S.to(device)].sub_(self._embedding_ND[column_S.to(device)])
            distance_S = difference_SD.square_().sum(1)
            distance_P[part] = (distance_S if self.squared else distance_S.sqrt_()).cpu().numpy()
        return distance_P


class MatrixDistances(Distances):
    """Distances that were computed before, by a pair matcher for instance; they need not be symmetric.

    Args:
        query_gallery_QG: [Q, G], at least 0; arrays or memory maps.
        query_query_QQ: [Q, Q].
        gallery_gallery_GG: [G, G].
        squared: whether to square them.

    Raises:
        ShapeError: the shapes do not fit.

    A row holds the distances *to* its image: row i is column i of [[QQ, QG], [QG transposed, GG]], as in the released
    codes. Symmetric distances know no difference.
    """

    def __init__(
        self, query_gallery_QG: Floats, query_query_QQ: Floats, gallery_gallery_GG: Floats, *, squared: bool
    ) -> None:
        shapes = tuple(tuple(given.shape) for given in (query_gallery_QG, query_query_QQ, gallery_gallery_GG))
        num_query, num_gallery = shapes[0] if len(shapes[0]) == 2 else (0, 0)
        if not num_query or not num_gallery or shapes[1:] != ((num_query,) * 2, (num_gallery,) * 2):
            raise ShapeError(
                "k_reciprocal: wanted distances [Q, G], [Q, Q] and [G, G] of at least one query and one gallery image, "
                f"found {', '.join(str(list(shape)) for shape in shapes)}. Hand in all three of the same images."
            )
        self.num_query, self.num_gallery, self.squared = num_query, num_gallery, squared
        self._qg, self._qq, self._gg = query_gallery_QG, query_query_QQ, gallery_gallery_GG

    def block(self, start: int, stop: int, first_column: int = 0) -> Tensor:
        """See :meth:`Distances.block`."""
        query, gallery = self._split(start, stop)
        rows = [
            np.concatenate([self._qq[:, query].T, self._qg[query]], axis=1),
            np.concatenate([self._qg[:, gallery].T, self._gg[:, gallery].T], axis=1),
        ]
        block_BN = np.concatenate(rows)[:, first_column:].astype(np.float32)
        low, high = float(block_BN.min()), float(block_BN.max())
        if not (low >= 0 and np.isfinite(high)):
            raise ShapeError(
                f"k_reciprocal: wanted finite distances of at least 0, found values from {low:.4g} to {high:.4g} for "
                f"images {start} to {stop - 1}, queries counted first. Turn scores into distances, such as 1 - sigmoid."
            )
        return torch.from_numpy(np.square(block_BN, out=block_BN) if self.squared else block_BN)

    def pairs(self, row_P: NDArray[np.integer], column_P: NDArray[np.integer]) -> NDArray[np.float32]:
        """See :meth:`Distances.pairs`."""
        num = self.num_query
        of_query_P, to_query_P = row_P < num, column_P < num
        distance_P = np.empty(len(row_P), dtype=np.float32)
        for part_P, given, first_P, second_P in (
            (of_query_P & to_query_P, self._qq, column_P, row_P),
            (of_query_P & ~to_query_P, self._qg, row_P, column_P - num),
            (~of_query_P & to_query_P, self._qg, column_P, row_P - num),
            (~of_query_P & ~to_query_P, self._gg, column_P - num, row_P - num),
        ):
            distance_P[part_P] = given[first_P[part_P], second_P[part_P]]
        return np.square(distance_P, out=distance_P) if self.squared else distance_P

    def _split(self, start: int, stop: int) -> tuple[slice, slice]:
        """Rows of the block that are queries, and those that are gallery images."""
        num = self.num_query
        return slice(min(start, num), min(stop, num)), slice(max(start - num, 0), max(stop - num, 0))
