"""Optimal assignment of two sets whose members may stay without a partner: Sinkhorn's iterations in log space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from reid.nn.dtype import at_least_float32

NOTHING = -1e9
"""Log of no mass. Finite: differences of infinities would be NaN."""


def log_assignment(
    score_NKL: Tensor,
    dustbin: Tensor,
    iterations: int,
    *,
    query_mask_NK: Tensor | None = None,
    gallery_mask_NL: Tensor | None = None,
) -> Tensor:
    """Log of the entropic optimal assignment of K query to L gallery keypoints, each of which may go to a dustbin.

    A row and a column of score ``dustbin`` are added. Keypoints have mass 1, the query's dustbin row as much as there
    are gallery keypoints, the gallery's dustbin column as much as there are query keypoints. Sinkhorn's updates begin
    once with the rows and once with the columns; the outcome is the mean of both logs, so that swapping the sides
    transposes it exactly, converged or not.

    Args:
        score_NKL: of each pair of keypoints, [N, K, L], any float dtype; computed in at least float32 under autocast
            too, since 16 bits leave row sums that are off by a tenth.
        dustbin: score of going without a partner, a scalar tensor.
        iterations: of both updates, for each of the two orders, at least 1. How many are needed grows with the scores'
            spread; see :func:`marginal_error`.
        query_mask_NK: which query keypoints there are, [N, K], bool; None: all. The others are padding.
        gallery_mask_NL: likewise, [N, L].

    Returns:
        [N, K+1, L+1], at least float32; the last row and column are the dustbins. :data:`NOTHING` where a keypoint is
        padding. Inner rows and columns of its exponential come to 1 as iterations grow, the dustbin row to the number
        of gallery keypoints, the dustbin column to that of query keypoints.

    Source: Sarlin, DeTone, Malisiewicz and Rabinovich, SuperGlue, CVPR 2020, eqs. 7-9; Sinkhorn and Knopp, 1967.
    Differs: the mean over both orders. The published order alone gives the last updated side exact sums and the other
    all of the error, so that (a, b) and (b, a) differ until it has converged.
    """
    with torch.autocast(score_NKL.device.type, enabled=False):
        score_NKL = at_least_float32(score_NKL)
        query = _Side.of(score_NKL, query_mask_NK, gallery_mask_NL, 1)
        gallery = _Side.of(score_NKL, gallery_mask_NL, query_mask_NK, 2)
        missing_NKL = _either(query, gallery)
        score_NKL = _without(_bordered(score_NKL, dustbin), missing_NKL, NOTHING)
        score_NLK = score_NKL.transpose(1, 2).contiguous()  # both sides by the same arithmetic: swapping is exact
        row_NK1, column_NL1 = (torch.zeros_like(side.log_mass_NX1) for side in (query, gallery))
        row_before_NK1, column_before_NL1 = row_NK1, column_NL1
        for _ in range(2 * iterations):  # both at once from both old ones: the two orders, interleaved
            row_before_NK1, column_before_NL1 = row_NK1, column_NL1
            row_NK1 = query.update(score_NKL, column_before_NL1)
            column_NL1 = gallery.update(score_NLK, row_before_NK1)
        row_NK1, column_NL1 = (row_NK1 + row_before_NK1) / 2, (column_NL1 + column_before_NL1) / 2
        return _without(score_NKL + (row_NK1 + column_NL1.transpose(1, 2)), missing_NKL, NOTHING)


@torch.no_grad()
def marginal_error(
    log_assignment_NKL: Tensor, query_mask_NK: Tensor | None = None, gallery_mask_NL: Tensor | None = None
) -> Tensor:
    """How far from converged: the largest deviation of a keypoint's mass from 1, over both sides.

    Args:
        log_assignment_NKL: what :func:`log_assignment` returned, [N, K+1, L+1].
        query_mask_NK: as given to it.
        gallery_mask_NL: as given to it.

    Returns:
        error_N: [N], 0 where no image has a keypoint.
    """
    mass_NKL = log_assignment_NKL.exp()
    sides = ((mass_NKL[:, :-1].sum(2), query_mask_NK), (mass_NKL[:, :, :-1].sum(1), gallery_mask_NL))
    errors = [_absent_as_0((sum_NX - 1).abs(), mask_NX) for sum_NX, mask_NX in sides]
    return torch.cat((*errors, mass_NKL.new_zeros(len(mass_NKL), 1)), dim=1).amax(1)


def _absent_as_0(x_NX: Tensor, mask_NX: Tensor | None) -> Tensor:
    return x_NX if mask_NX is None else x_NX.masked_fill(~mask_NX, 0)


@dataclass(frozen=True, slots=True)
class _Side:
    """The keypoints of the query's or the gallery's side, and their dustbin.

    Attributes:
        log_mass_NX1: log of each one's mass, [N, X+1, 1].
        missing_NX1: which are padding, [N, X+1, 1]; None: none.
    """

    log_mass_NX1: Tensor
    missing_NX1: Tensor | None

    @staticmethod
    def of(score_NKL: Tensor, mask_NX: Tensor | None, other_mask_NX: Tensor | None, dim: int) -> _Side:
        """The side along ``dim`` of the scores."""
        others_N1 = _count(score_NKL, other_mask_NX, 3 - dim)
        log_N1 = others_N1.clamp(min=1).log().masked_fill(others_N1 == 0, NOTHING)  # the dustbin's
        log_mass_NX = torch.cat((log_N1.new_zeros(len(log_N1), score_NKL.shape[dim]), log_N1), dim=1)
        missing_NX = None if mask_NX is None else functional.pad(~mask_NX, (0, 1))
        return _Side(log_mass_NX[:, :, None], None if missing_NX is None else missing_NX[:, :, None])

    def update(self, score_NXY: Tensor, other_NY1: Tensor) -> Tensor:
        """The potentials with which this side's masses are right, given the other side's, [N, X+1, 1]."""
        out_NX1: Tensor = _LogSumExp.apply(score_NXY, other_NY1.transpose(1, 2))  # type: ignore[no-untyped-call]
        return _without(self.log_mass_NX1 - out_NX1, self.missing_NX1, 0)


def _count(score_NKL: Tensor, mask_NX: Tensor | None, dim: int) -> Tensor:
    """Keypoints that there are, [N, 1], in the scores' dtype."""
    if mask_NX is None:
        return score_NKL.new_full((len(score_NKL), 1), score_NKL.shape[dim])
    return mask_NX.sum(1, keepdim=True).to(score_NKL.dtype)


def _without(x: Tensor, missing: Tensor | None, value: float) -> Tensor:
    return x if missing is None else x.masked_fill(missing, value)


def _either(query: _Side, gallery: _Side) -> Tensor | None:
    """Which entries of the scores are padding, [N, K+1, L+1]; None: none."""
    parts = []
    if query.missing_NX1 is not None:
        parts.append(query.missing_NX1)
    if gallery.missing_NX1 is not None:
        parts.append(gallery.missing_NX1.transpose(1, 2))
    return reduce(torch.logical_or, parts) if parts else None


def _bordered(score_NKL: Tensor, dustbin: Tensor) -> Tensor:
    """A row and a column of dustbins more."""
    num_pairs, num_rows, num_columns = score_NKL.shape
    dustbin = dustbin.to(score_NKL.dtype)
    score_NKL = torch.cat((score_NKL, dustbin.expand(num_pairs, num_rows, 1)), dim=2)
    return torch.cat((score_NKL, dustbin.expand(num_pairs, 1, num_columns + 1)), dim=1)


class _LogSumExp(torch.autograd.Function):
    """``logsumexp(score + potential)`` over the last dimension that keeps only vectors, and the one score tensor.

    What torch would keep, a tensor of the scores' size for each of some hundred updates, is gigabytes in training.
    """

    @staticmethod
    def forward(ctx: Any, score_NXY: Tensor, potential_N1Y: Tensor) -> Tensor:
        sum_NXY = score_NXY + potential_N1Y
        highest_NX1 = sum_NXY.amax(2, keepdim=True)
        out_NX1 = sum_NXY.sub_(highest_NX1).exp_().sum(2, keepdim=True).log_().add_(highest_NX1)
        ctx.save_for_backward(score_NXY, potential_N1Y, out_NX1)
        return out_NX1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NX1: Tensor) -> tuple[Tensor, Tensor]:
        score_NXY, potential_N1Y, out_NX1 = ctx.saved_tensors
        share_NXY = (score_NXY + potential_N1Y).sub_(out_NX1).exp_().mul_(grad_NX1)
        return share_NXY, share_NXY.sum(1, keepdim=True)
