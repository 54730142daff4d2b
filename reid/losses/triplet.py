"""Batch-hard triplet loss on scores."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat
from torch import Tensor

from reid.losses._base import Loss, LossConfig, LossSpec, LossValue
from reid.losses._rows import finite_rows, hardest, mean_of_rows
from reid.types import ImageState


class Config(LossConfig):
    """The default is QAConv-GS's."""

    name: Literal["triplet"] = "triplet"
    margin: PositiveFloat = Field(16.0, description="in units of the score; 16 suits unbounded logits, not cosines")


class TripletLoss(Loss):
    """Per row, ``max(0, hardest negative - hardest positive + margin)``; the mean over rows.

    The image itself is no positive. A row without another image of its identity adds 0 and counts in the mean. A row is
    solved if its hardest positive scores at least as high as its hardest negative. Rows with a non-finite score are
    left out.

    Source: Hermans et al., In Defense of the Triplet Loss, 2017; Liao and Shao, Graph Sampling (QAConv-GS), CVPR 2022.
    """

    def __init__(self, config: Config, spec: LossSpec) -> None:  # noqa: ARG002
        super().__init__()
        self.margin = config.margin

    def forward(self, state: ImageState, score_BB: Tensor, label_B: Tensor) -> LossValue:  # noqa: ARG002
        """See :meth:`Loss.forward`."""
        finite_B = finite_rows(score_BB, label_B)
        found = hardest(score_BB, label_B)
        positive_R, negative_R = found.positive_B[finite_B], found.negative_B[finite_B]
        return mean_of_rows((negative_R - positive_R + self.margin).relu(), positive_R >= negative_R)


COMPONENT = TripletLoss
