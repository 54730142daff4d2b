"""Binary cross-entropy of every pair of a batch: same identity or not."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from reid.losses._base import Loss, LossConfig, LossSpec, LossValue
from reid.losses._rows import finite_rows, hardest, mean_of_rows
from reid.types import ImageState


class Config(LossConfig):
    """Nothing to set."""

    name: Literal["pairwise"] = "pairwise"


class PairwiseMatchingLoss(Loss):
    """Read each score as a logit of "same identity"; add over a row, take the mean over rows.

    The diagonal, an image with itself, counts as a positive pair. A row is solved if every other image of its
    identity scores above every other identity. Rows with a non-finite score are left out.

    Source: Liao and Shao, TransMatcher, NeurIPS 2021, and its released code (the sum over a row is the code's).
    """

    def __init__(self, config: Config, spec: LossSpec) -> None:  # noqa: ARG002
        super().__init__()

    def forward(self, state: ImageState, score_BB: Tensor, label_B: Tensor) -> LossValue:  # noqa: ARG002
        """See :meth:`Loss.forward`."""
        finite_B = finite_rows(score_BB, label_B)
        found = hardest(score_BB.detach(), label_B)
        solved_B = found.positive_B > found.negative_B
        target_BB = (label_B[:, None] == label_B).to(score_BB.dtype)
        loss_RB = functional.binary_cross_entropy_with_logits(score_BB[finite_B], target_BB[finite_B], reduction="none")
        return mean_of_rows(loss_RB.sum(1), solved_B[finite_B])


COMPONENT = PairwiseMatchingLoss
