"""Assignments of keypoints to keypoints: what is found for pairs of images, the matches in it and the pairs' scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from reid.matchers._base import LOGIT_SCALE, PairOutputs
from reid.nn.transport import NOTHING, marginal_error
from reid.types import Correspondences

NO_MATCH = -100.0
"""Score of a pair of which an image has no keypoint, where scores have no lowest value."""


@dataclass(frozen=True, slots=True)
class PairScores:
    """What N assignments say about whether both images show the same person; higher = more alike, all [N].

    Attributes:
        mass_N: share of the keypoints, of the image with fewer, that found a partner, 0..1: of a converged assignment,
            its mass without dustbins by the smaller number of keypoints.
        sim_N: cosine of partners' descriptors, weighted by the assignment, -1..1.
        ot_N: the transport's value: mean score of all assigned mass, dustbins' too.
        count_N: number of matches; see :func:`mutual_matches`.
        odds_N: logarithm of ``mass / (1 - mass)``, exact also where the mass is nearly 0 or 1.
    """

    mass_N: Tensor
    sim_N: Tensor
    ot_N: Tensor
    count_N: Tensor
    odds_N: Tensor


@dataclass(frozen=True, slots=True)
class AssignmentOutputs(PairOutputs):
    """What a matcher of keypoints finds for N pairs.

    Attributes:
        log_assignment_NKK: log mass from query to gallery keypoints, [N, K+1, K+1], at least float32; the last row and
            column are the dustbins. See :func:`reid.nn.transport.log_assignment`.
        query_point_NK2: (x, y) in pixels of the query image, [N, K, 2].
        gallery_point_NK2: (x, y) in pixels of the gallery image, [N, K, 2].
        scores: all pair scores.
        query_mask_NK: which query keypoints there are, [N, K], bool; None: all.
        gallery_mask_NK: likewise.
        cell_px: distance between neighbouring keypoints where they are a grid, pixels; None: they are not.
        match_threshold: least mass of a match.
    """

    log_assignment_NKK: Tensor
    query_point_NK2: Tensor
    gallery_point_NK2: Tensor
    scores: PairScores
    query_mask_NK: Tensor | None = None
    gallery_mask_NK: Tensor | None = None
    cell_px: int | None = None
    match_threshold: float = 0.2

    @property
    def marginal_error_N(self) -> Tensor:  # noqa: N802 - N is its shape
        """How far each assignment is from converged; see :func:`reid.nn.transport.marginal_error`."""
        return marginal_error(self.log_assignment_NKK, self.query_mask_NK, self.gallery_mask_NK)

    @property
    def other_scores(self) -> dict[str, Tensor]:
        """All of :class:`PairScores`."""
        return {field.name.removesuffix("_N"): getattr(self.scores, field.name) for field in fields(self.scores)}

    def matches(self) -> list[Correspondences]:
        """Keypoints that are each other's best, with a mass above the threshold; the mass is the confidence."""
        return hard_matches(self, self.match_threshold)

    @staticmethod
    def cat(parts: Sequence[AssignmentOutputs]) -> AssignmentOutputs:
        """The outcomes of all pairs, in order."""
        joined = _joined([{f.name: getattr(part, f.name) for f in fields(part)} for part in parts])
        scores = _joined([{f.name: getattr(part.scores, f.name) for f in fields(part.scores)} for part in parts])
        return AssignmentOutputs(**{**joined, "scores": PairScores(**scores)})


def _joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Tensors one behind another; of what is no tensor, the first's."""
    first = parts[0]
    return {
        name: torch.cat([part[name] for part in parts]) if isinstance(value, Tensor) else value
        for name, value in first.items()
    }


def mutual_matches(log_assignment_NKK: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Pairs of keypoints each of which is the other's best, and whose mass is above a threshold.

    Args:
        log_assignment_NKK: with dustbins, [N, K+1, K+1]; these do not compete.
        threshold: 0..1.

    Returns:
        gallery_idx_NK: the best gallery keypoint of each query keypoint, [N, K], int64.
        mass_NK: of the match, [N, K]; 0 where there is none.

    Source: Sarlin et al., SuperGlue, CVPR 2020, section 4: mutual, and above 0.2.
    """
    inner_NKK = log_assignment_NKK[:, :-1, :-1]
    best = inner_NKK.max(2)
    back_NK = inner_NKK.argmax(1).gather(1, best.indices)
    mutual_NK = back_NK == torch.arange(back_NK.shape[1], device=back_NK.device)
    mass_NK = best.values.exp()
    return best.indices, mass_NK.masked_fill(~(mutual_NK & (mass_NK > threshold)), 0)


def hard_matches(outputs: AssignmentOutputs, threshold: float) -> list[Correspondences]:
    """The mutual matches of each pair, in the order of query keypoints; none where an image has no keypoint."""
    idx_NK, mass_NK = mutual_matches(outputs.log_assignment_NKK, threshold)
    found = []
    for query_K2, gallery_K2, idx_K, mass_K in zip(
        outputs.query_point_NK2, outputs.gallery_point_NK2, idx_NK, mass_NK, strict=True
    ):
        kept_K = mass_K > 0
        query_N2, gallery_N2 = query_K2[kept_K], gallery_K2[idx_K[kept_K]]
        found.append(Correspondences(query_N2.float(), gallery_N2.float(), mass_K[kept_K].float(), "assignment"))
    return found


def pair_scores(
    log_assignment_NKK: Tensor, score_NKK: Tensor, cosine_NKK: Tensor, dustbin: Tensor, threshold: float
) -> PairScores:
    """All scores of N pairs. Which keypoints there are is told by the assignment: others have no mass at all.

    Where an image has none, everything is lowest: 0, -1 or :data:`NO_MATCH`.

    Args:
        log_assignment_NKK: with dustbins, [N, K+1, K+1].
        score_NKK: what was assigned, without dustbins, [N, K, K].
        cosine_NKK: of the keypoints' descriptors, [N, K, K].
        dustbin: score of the dustbins, a scalar tensor.
        threshold: of the matches that are counted.

    Source: ours; the number of matches is the usual score of SuperGlue in visual place recognition.
    """
    log_NKK, dtype = log_assignment_NKK.double(), log_assignment_NKK.dtype  # sums of K^2 masses, some of them tiny
    log_inner_NKK, inner_NKK = log_NKK[:, :-1, :-1], log_NKK[:, :-1, :-1].exp()
    inner_N, all_N = inner_NKK.sum((1, 2)), log_NKK.exp().sum((1, 2))
    alone_N = torch.minimum(log_NKK[:, :-1, -1].logsumexp(1), log_NKK[:, -1, :-1].logsumexp(1))
    odds_N = log_inner_NKK.logsumexp((1, 2)) - alone_N
    sim_N = (inner_NKK * cosine_NKK).sum((1, 2)) / inner_N.clamp(min=1e-12)
    value_N = (inner_NKK * score_NKK).sum((1, 2)) + dustbin * (all_N - inner_N)
    count_N = (mutual_matches(log_assignment_NKK, threshold)[1] > 0).sum(1)
    empty_N = alone_N < NOTHING / 2
    return PairScores(
        mass_N=odds_N.sigmoid().masked_fill(empty_N, 0).to(dtype),
        sim_N=sim_N.masked_fill(empty_N, -1).to(dtype),
        ot_N=(value_N / all_N.clamp(min=1e-12)).masked_fill(empty_N, NO_MATCH).to(dtype),
        count_N=count_N.to(dtype),
        odds_N=odds_N.masked_fill(empty_N, NO_MATCH).to(dtype),
    )


class Calibration(nn.Module):
    """Logit of "same person": ``scale * odds + 10 * (weight * sim + shift)``; see :data:`LOGIT_SCALE`.

    The scale is positive: it is an exponential. Odds differ by units between pairs, similarities by tenths, which say
    more of identities: their weight must become much the larger. The shift starts where pairs are not far from an even
    chance, so that learning does not begin with finding that.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.weight = nn.Parameter(torch.ones(()))
        self.shift = nn.Parameter(torch.tensor(-0.5))

    def forward(self, scores: PairScores) -> Tensor:
        """Logits, [N]."""
        return self.log_scale.exp() * scores.odds_N + LOGIT_SCALE * (self.weight * scores.sim_N + self.shift)
