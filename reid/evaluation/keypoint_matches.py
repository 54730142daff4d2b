"""Matches between two sets of keypoints: precision, recall and average precision of found ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

from reid.errors import ShapeError
from reid.evaluation.correspondences import Floats, as_array
from reid.evaluation.keypoint_labels import IGNORED, Ints, KeypointLabels
from reid.evaluation.pair_scores import mean_of_known
from reid.types import Correspondences

_SAME_PX = 0.01
Keypoints = Sequence[Tensor] | Tensor
"""Of each pair, (x, y) in pixels, [K, 2]; K may differ between pairs."""


@dataclass(frozen=True, slots=True, eq=False)
class MatchMetrics:
    """Of N pairs, fractions 0..1, float64; NaN where there is nothing to count. Means leave such pairs out.

    Attributes:
        precision_N: share of correct ones among the found matches whose query keypoint is not ignored, [N].
        recall_N: share of the true matches that were found, [N].
        ap_N: average precision: found or ranked matches in the order of their confidence, [N].
        num_true_N: true matches, [N].
        num_found_N: found matches that count, [N].
    """

    precision_N: Floats
    recall_N: Floats
    ap_N: Floats
    num_true_N: Ints
    num_found_N: Ints

    @property
    def precision(self) -> float | None:
        """Mean over pairs with a found match that counts."""
        return mean_of_known(self.precision_N)

    @property
    def recall(self) -> float | None:
        """Mean over pairs with a true match."""
        return mean_of_known(self.recall_N)

    @property
    def mean_ap(self) -> float | None:
        """Mean over pairs with a true match."""
        return mean_of_known(self.ap_N)


def match_metrics(
    found: Iterable[Correspondences],
    query: Keypoints,
    gallery: Keypoints,
    labels: Sequence[KeypointLabels],
    *,
    ranked: Iterable[Correspondences] | None = None,
) -> MatchMetrics:
    """Compare found matches of N pairs with the true ones.

    A found match is correct if its gallery keypoint is the label of its query keypoint; it does not count if that
    label is :data:`IGNORED`. True matches that were not found lower recall and average precision.

    Args:
        found: of kind ``maximum`` or ``assignment``, between the given keypoints, one a pair, taken one by one.
        query: all keypoints of each query image, matched or not.
        gallery: of each gallery image.
        labels: of the keypoints of each pair.
        ranked: what the average precision is of instead, one a pair: matches of any confidence, where ``found`` was
            cut at a threshold, which would cap it at the recall.

    Raises:
        ShapeError: the numbers of pairs differ, a position is no keypoint, or a query keypoint has two partners.

    Source: precision and recall against labels as in Sarlin et al., SuperGlue, CVPR 2020, section 5.1; ignored
    keypoints as in glue-factory. Theirs is a mean over pairs as well. Average precision as in
    :func:`match_average_precision`.
    """
    if not len(query) == len(gallery) == len(labels):
        raise ShapeError(
            f"match_metrics: wanted keypoints of the {len(labels)} pairs whose labels are given, found those of "
            f"{len(query)} query and {len(gallery)} gallery images."
        )
    rows = []
    each: Iterable[tuple[Correspondences | None, ...]] = zip(found) if ranked is None else zip_longest(found, ranked)
    for pair, all_of_pair in zip_longest(range(len(labels)), each):
        matches = [one for one in all_of_pair or () if one is not None]
        if pair is None or all_of_pair is None or len(matches) < len(all_of_pair):
            raise ShapeError(
                f"match_metrics: wanted matches of the {len(labels)} pairs whose labels are given, found "
                f"{'more' if pair is None else pair}."
            )
        points = as_array(query[pair]), as_array(gallery[pair])
        judged = [_judge(one, *points, labels[pair].query_K) for one in matches]
        rows.append(_row(judged[0], judged[-1], int((labels[pair].query_K >= 0).sum())))
    columns = [np.array(column) for column in zip(*rows, strict=True)] if rows else [np.empty(0)] * 5
    return MatchMetrics(*columns)


def match_average_precision(confidence_N: Floats, correct_N: NDArray[np.bool_], num_true: int) -> float:
    """Precision at each confidence, weighted by the recall that it adds; equal confidences come together.

    Args:
        confidence_N: of the found matches that count, [N].
        correct_N: whether each is a true match, [N].
        num_true: true matches, found or not, at least 1.

    Source: the sum over thresholds as in scikit-learn's ``average_precision_score``; true matches that were not found
    add nothing to it.
    """
    order_N = np.argsort(-confidence_N, kind="stable")
    hits_N = np.cumsum(correct_N[order_N])
    last_T = np.flatnonzero(np.diff(confidence_N[order_N], append=np.nan) != 0)
    gain_T = np.diff(hits_N[last_T], prepend=0)
    return float((hits_N[last_T] / (last_T + 1) * gain_T).sum() / num_true)


class _Judged(NamedTuple):
    confidence_N: Floats  # of the matches that count
    correct_N: NDArray[np.bool_]


def _judge(found: Correspondences, query_K2: Floats, gallery_L2: Floats, label_K: Ints) -> _Judged:
    """Which matches of one pair count, and which of them are true."""
    query_idx_N = _indices(as_array(found.query_N2), query_K2)
    gallery_idx_N = _indices(as_array(found.gallery_N2), gallery_L2)
    if len(set(query_idx_N.tolist())) < len(query_idx_N):
        raise ShapeError("match_metrics: wanted at most one partner a query keypoint, found two of the same.")
    wanted_N = label_K[query_idx_N]
    counts_N = wanted_N != IGNORED
    return _Judged(as_array(found.confidence_N)[counts_N], (wanted_N == gallery_idx_N)[counts_N])


def _row(found: _Judged, ranked: _Judged, num_true: int) -> tuple[float, float, float, int, int]:
    """A row of :class:`MatchMetrics`."""
    num_found, num_right = len(found.correct_N), int(found.correct_N.sum())
    precision = num_right / num_found if num_found else np.nan
    recall = num_right / num_true if num_true else np.nan
    ap = match_average_precision(*ranked, num_true) if num_true else np.nan
    return precision, recall, ap, num_true, num_found


def _indices(position_N2: Floats, keypoint_K2: Floats) -> Ints:
    """Which keypoints these are."""
    if not len(position_N2):
        return np.empty(0, dtype=np.int64)
    distance_N, idx_N = map(np.asarray, KDTree(keypoint_K2).query(position_N2))
    if distance_N.max() > _SAME_PX:
        raise ShapeError(
            f"match_metrics: wanted matches between the given keypoints, found one {distance_N.max():.3g} px from the "
            "nearest. Dense warps are measured by warp_metrics."
        )
    return idx_N.astype(np.int64)
