"""How far found positions lie from the true ones, and what their confidence tells about what can be seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from torch import Tensor

from reid.errors import ShapeError
from reid.evaluation.correspondences import Bools, Floats, as_array, found_at, truth_at
from reid.evaluation.pair_scores import mean_of_known, roc_auc
from reid.types import Correspondences, Warp

THRESHOLDS_PX = (2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True, eq=False)
class WarpMetrics:
    """Of N pairs, float64; NaN where a pair has nothing to measure. Means over pairs leave such pairs out.

    Attributes:
        mean_px_N: mean end-point error, the distance between found and true position, [N].
        median_px_N: its median, [N].
        pck_NT: percentage of correct keypoints, as a fraction: positions found within each threshold, [N, T].
        coverage_N: share of positions for which there is a prediction; others count as wrong in ``pck_NT``, and are
            left out of the end-point errors, [N].
        pooled_auc: ROC-AUC of the confidence against being visible, over the positions of all pairs together; None
            where all are visible, or none is, or where confidences are comparable within a pair only.
        thresholds_px: the T thresholds.
    """

    mean_px_N: Floats
    median_px_N: Floats
    pck_NT: Floats
    coverage_N: Floats
    pooled_auc: float | None
    thresholds_px: tuple[float, ...]

    @property
    def mean_px(self) -> float | None:
        """Mean over pairs of the mean end-point error."""
        return mean_of_known(self.mean_px_N)

    @property
    def median_px(self) -> float | None:
        """Mean over pairs of the median end-point error."""
        return mean_of_known(self.median_px_N)

    @property
    def pck(self) -> dict[float, float | None]:
        """Mean over pairs by threshold in pixels."""
        return dict(zip(self.thresholds_px, map(mean_of_known, self.pck_NT.T), strict=True))

    @property
    def coverage(self) -> float | None:
        """Mean over pairs."""
        return mean_of_known(self.coverage_N)


def warp_metrics(
    found: Iterable[Correspondences],
    truth: Warp,
    *,
    at_M2: Tensor | None = None,
    reach_px: float = np.inf,
    thresholds_px: Sequence[float] = THRESHOLDS_PX,
) -> WarpMetrics:
    """Compare where N pairs were found to correspond with the truth, over positions where it is known.

    Args:
        found: from query to gallery, one a pair; taken one by one, so that a generator need not hold all.
        truth: of the N pairs, likewise from query to gallery.
        at_M2: positions of the query image to ask for, (x, y) in pixels, [M, 2], by :func:`found_at`, so that methods
            that speak about different positions can be compared; None: the positions each method speaks about.
        reach_px: of :func:`found_at`.
        thresholds_px: of the PCK; a position at just that distance is correct.

    Raises:
        ShapeError: the numbers of pairs differ, or a position lies outside the image.

    Source: PCK, Yang and Ramanan, Articulated Pose Estimation with Flexible Mixtures of Parts, CVPR 2011, in pixels as
    in Edstedt et al., RoMa, CVPR 2024. Theirs pool the pixels of all pairs; ours are means over pairs, which a
    bootstrap can draw. ROC-AUC gives half a point where confidences are equal.
    """
    asked_M2 = None if at_M2 is None else as_array(at_M2)
    pairs, comparable = [], True
    for pair, one in zip_longest(range(len(truth)), found):
        if pair is None or one is None:
            raise ShapeError(
                f"warp_metrics: wanted correspondences of the {len(truth)} pairs whose truth is given, found "
                f"{'more' if pair is None else pair}."
            )
        pairs.append(_compare(one, truth, pair, asked_M2, reach_px))
        comparable = comparable and one.kind != "maximum"
    return _summarised(pairs, tuple(thresholds_px), comparable=comparable)


class _Compared(NamedTuple):
    error_M: Floats  # of visible positions, pixels; infinite where nothing was found
    confidence_M: Floats  # of known positions
    visible_M: Bools  # of known positions


def _compare(found: Correspondences, truth: Warp, pair: int, asked_M2: Floats | None, reach_px: float) -> _Compared:
    if asked_M2 is None:
        at_M2, there_M2, confidence_M = map(as_array, (found.query_N2, found.gallery_N2, found.confidence_N))
    else:
        at_M2 = asked_M2
        there_M2, confidence_M = found_at(found, at_M2, reach_px=reach_px)
    spots = truth_at(truth, pair, at_M2)
    error_M = np.linalg.norm(there_M2 - spots.position_M2, axis=1)
    error_M[np.isnan(error_M)] = np.inf
    return _Compared(error_M[spots.seen_M], confidence_M[spots.known_M], spots.visible_M[spots.known_M])


def _summarised(pairs: Sequence[_Compared], thresholds_px: tuple[float, ...], *, comparable: bool) -> WarpMetrics:
    predicted = [pair.error_M[np.isfinite(pair.error_M)] for pair in pairs]
    num_N = np.array([len(pair.error_M) for pair in pairs])
    within = [[(pair.error_M <= px).mean() if len(pair.error_M) else np.nan for px in thresholds_px] for pair in pairs]
    pooled = _Compared(*map(np.concatenate, zip(*pairs, strict=True))) if pairs and comparable else None
    return WarpMetrics(
        mean_px_N=np.array([error_M.mean() if len(error_M) else np.nan for error_M in predicted]),
        median_px_N=np.array([np.median(error_M) if len(error_M) else np.nan for error_M in predicted]),
        pck_NT=np.array(within).reshape(len(pairs), len(thresholds_px)),
        coverage_N=np.where(num_N, [len(error_M) for error_M in predicted] / np.maximum(num_N, 1), np.nan),
        pooled_auc=None if pooled is None else roc_auc(pooled.confidence_M, pooled.visible_M),
        thresholds_px=thresholds_px,
    )
