"""Shared ground of the losses on a batch scored against itself: which rows count, and their hardest entries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reid.errors import ShapeError
from reid.losses._base import LossValue


def finite_rows(score_BB: Tensor, label_B: Tensor) -> Tensor:
    """Which rows have no NaN or infinity, [B], bool.

    Raises:
        ShapeError: the scores are not [B, B] for B labels.
    """
    size = len(label_B)
    if score_BB.shape != (size, size):
        raise ShapeError(f"loss: wanted scores [B, B] for {size} labels, found {list(score_BB.shape)}.")
    return score_BB.isfinite().all(1)


@dataclass(frozen=True, slots=True)
class Hardest:
    """Per row: the lowest score of another image of the same identity, and the highest of any other identity.

    +inf where a row has no other image of its identity, -inf where the batch has no other identity.
    """

    positive_B: Tensor
    negative_B: Tensor


def hardest(score_BB: Tensor, label_B: Tensor) -> Hardest:
    """Find the hardest entries; gradients reach exactly one entry of each kind."""
    same_BB = label_B[:, None] == label_B
    self_BB = torch.eye(len(label_B), dtype=torch.bool, device=label_B.device)
    positive_B = score_BB.masked_fill(~same_BB | self_BB, torch.inf).min(1).values
    negative_B = score_BB.masked_fill(same_BB, -torch.inf).max(1).values
    return Hardest(positive_B, negative_B)


def mean_of_rows(loss_R: Tensor, solved_R: Tensor) -> LossValue:
    """The mean over the rows that are left; no loss if there is none."""
    if len(loss_R) == 0:
        return LossValue(None, 0.0)
    return LossValue(loss_R.mean(), float(solved_R.float().mean()))
