"""Scores to ranks of the true matches: all that the metrics need, in memory that does not grow with the gallery.

A block of queries at a time is sorted by value and the true matches are looked up in it. The indices are never
sorted, which is what makes the usual evaluation slow and large.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid.errors import ShapeError
from reid.evaluation.labels import CameraRule, Labels, QueryTruth, Reason, Truth

Scores = NDArray[np.floating] | Tensor
"""Scores [Q, G], higher = more alike: an array, a memory map or a tensor on any device, any floating dtype."""

BLOCK_BYTES = 2**22
"""Scores that one thread looks at together; small enough for a second-level cache to hold."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Where the true matches of Q queries stand.

    Attributes:
        rank_Q: per query the ranks of its matches among the kept gallery images, [M], int64, ascending,
            from 1; empty where there is no match.
        num_kept_Q: gallery images that were ranked, [Q], int64.
        unmatched: query index -> why the query has no match and is not counted.
        camera_rule: whether the same-camera rule was applied.
    """

    rank_Q: tuple[NDArray[np.int64], ...]
    num_kept_Q: NDArray[np.int64]
    unmatched: Mapping[int, Reason]
    camera_rule: CameraRule

    @property
    def unmatched_counts(self) -> dict[Reason, int]:
        """Reason -> number of queries that are not counted for it."""
        return dict(sorted(Counter(self.unmatched.values()).items()))


def rank_matches(score_QG: Scores, query: Labels, gallery: Labels, *, camera_rule: bool = True) -> Ranking:
    """Rank every query's true matches in the gallery.

    Junk and images of the same person *and* the same camera are left out, distractors stay. The order is
    stable: of equal scores, the earlier gallery image stands first.

    Args:
        score_QG: [Q, G], higher = more alike. Only :data:`BLOCK_BYTES` a thread of it are copied at a time.
        query: labels of the Q rows.
        gallery: labels of the G columns.
        camera_rule: False ranks images of the query's own camera too.

    Raises:
        ShapeError: scores and labels differ in number, there are none, or a ranked score is not finite.

    Source: the single-query protocol of Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015.
    """
    _check(score_QG, len(query), len(gallery))
    truth = Truth(query, gallery, camera_rule=camera_rule)
    starts = range(0, len(query), _block_rows(score_QG))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        blocks = pool.map(lambda start: list(_rank_block(score_QG, truth, start)), starts)
        ranked_Q = [query for block in blocks for query in block]
    return Ranking(
        rank_Q=tuple(query.rank_M for query in ranked_Q),
        num_kept_Q=np.array([query.num_kept for query in ranked_Q], dtype=np.int64),
        unmatched={idx: query.reason for idx, query in enumerate(ranked_Q) if query.reason is not None},
        camera_rule=truth.camera_rule,
    )


def top_k(score_QG: Scores, k: int, removed_Q: Sequence[NDArray[np.int64]] = ()) -> NDArray[np.int64]:
    """Find the best gallery images of each query, best first; of equal scores, the earlier image first.

    Args:
        score_QG: [Q, G], higher = more alike, finite.
        k: how many, at least 1.
        removed_Q: per query the gallery indices to leave out; empty: none.

    Returns:
        idx_QK: [Q, k], int64; -1 where a query has fewer than k images left.

    Raises:
        ShapeError: ``k`` is below 1, or ``removed_Q`` has another length than the scores.
    """
    num_query, num_gallery = score_QG.shape
    if k < 1 or len(removed_Q) not in {0, num_query}:
        raise ShapeError(
            f"top_k: wanted k >= 1 and removed images for all {num_query} queries or none, "
            f"found k = {k} and {len(removed_Q)}."
        )
    idx_QK = np.full((num_query, k), -1, dtype=np.int64)
    for row in range(num_query):
        score_G = _rows(score_QG, row, row + 1)[0]
        kept_N = np.arange(num_gallery) if not len(removed_Q) else np.delete(np.arange(num_gallery), removed_Q[row])
        best_N = kept_N[_best(score_G[kept_N], k)]
        idx_QK[row, : len(best_N)] = best_N
    return idx_QK


def _best(score_N: NDArray[np.floating], k: int) -> NDArray[np.int64]:
    if len(score_N) > k:
        threshold = np.partition(score_N, len(score_N) - k)[len(score_N) - k]
        candidate_C = np.flatnonzero(score_N >= threshold)
    else:
        candidate_C = np.arange(len(score_N))
    return candidate_C[np.argsort(-score_N[candidate_C], kind="stable")[:k]]


@dataclass(frozen=True, slots=True, eq=False)
class _RankedQuery:
    rank_M: NDArray[np.int64]
    num_kept: int
    reason: Reason | None


def _rank_block(score_QG: Scores, truth: Truth, start: int) -> Iterator[_RankedQuery]:
    score_BG = _rows(score_QG, start, start + _block_rows(score_QG))
    rows = [truth[start + row] for row in range(len(score_BG))]
    for score_G, row in zip(score_BG, rows, strict=True):
        score_G[row.removed_R] = -np.inf
    ascending_BG = np.sort(score_BG, axis=1)
    for idx, row in enumerate(rows):
        kept_N = ascending_BG[idx, len(row.removed_R) :]
        # NaN is sorted last and what was removed first, so that the two ends tell about all between them.
        if len(kept_N) and not (np.isfinite(kept_N[0]) and np.isfinite(kept_N[-1])):
            raise _not_finite(score_BG[idx], row, start + idx)
        yield _RankedQuery(_ranks(score_BG[idx], ascending_BG[idx], row.match_M), len(kept_N), row.reason)


def _ranks(
    score_G: NDArray[np.floating], ascending_G: NDArray[np.floating], match_M: NDArray[np.int64]
) -> NDArray[np.int64]:
    value_M = score_G[match_M]
    not_above_M = np.searchsorted(ascending_G, value_M, side="right")
    ahead_M = len(ascending_G) - not_above_M
    tied_M = not_above_M - np.searchsorted(ascending_G, value_M, side="left") > 1
    for idx in np.flatnonzero(tied_M):
        ahead_M[idx] += np.count_nonzero(score_G[: match_M[idx]] == value_M[idx])
    return np.sort(ahead_M) + 1


def _check(score_QG: Scores, num_query: int, num_gallery: int) -> None:
    if tuple(score_QG.shape) != (num_query, num_gallery):
        raise ShapeError(
            f"evaluation: wanted scores [Q, G] = [{num_query}, {num_gallery}], one row a query image and one column "
            f"a gallery image, found {list(score_QG.shape)}."
        )
    floating = score_QG.is_floating_point() if isinstance(score_QG, Tensor) else score_QG.dtype.kind == "f"
    if not floating:
        raise ShapeError(f"evaluation: wanted floating-point scores, found {score_QG.dtype}.")


def _not_finite(score_G: NDArray[np.floating], row: QueryTruth, query_idx: int) -> ShapeError:
    bad_G = ~np.isfinite(score_G)
    bad_G[row.removed_R] = False
    gallery_idx = int(np.argmax(bad_G))
    return ShapeError(
        f"evaluation: wanted finite scores, found {score_G[gallery_idx]} for query image {query_idx} and gallery image "
        f"{gallery_idx}. Look for a training that diverged, or an overflow in half precision (score in float32)."
    )


def _rows(score_QG: Scores, start: int, stop: int) -> NDArray[np.floating]:
    """A copy of some rows in the precision they are sorted in."""
    rows_BG = score_QG[start:stop]
    if isinstance(rows_BG, Tensor):
        rows_BG = (rows_BG if rows_BG.dtype == torch.float64 else rows_BG.float()).detach().cpu().numpy()
    return np.array(rows_BG, dtype=np.float64 if rows_BG.dtype == np.float64 else np.float32)


def _block_rows(score_QG: Scores) -> int:
    return max(1, BLOCK_BYTES // (4 * score_QG.shape[1]))
