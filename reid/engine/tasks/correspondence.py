"""Task ``correspondence``: the loss compares where a matcher finds matches with where they are."""

from __future__ import annotations

from torch import nn

from reid.data.loader import TrainBatch
from reid.engine.model import Model
from reid.errors import ShapeError
from reid.losses._base import CorrespondenceLoss, LossValue


class CorrespondenceTask(nn.Module):
    """One step on pairs of views whose true correspondences are known.

    Args:
        model: encodes both views of each pair and compares them.
        loss: of the outcome.
    """

    def __init__(self, model: Model, loss: CorrespondenceLoss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: TrainBatch) -> LossValue:
        """Loss of a batch.

        Raises:
            ShapeError: nothing is known about its pairs, or there is a number of images that does not fit.
        """
        if batch.warps is None or 2 * len(batch.warps) != len(batch.label_B):
            found = "none" if batch.warps is None else f"{len(batch.warps)}"
            raise ShapeError(
                f"correspondence: wanted a warp for each pair of {len(batch.label_B)} images, found {found}."
            )
        state, num_pairs = self.model(batch.inputs), len(batch.warps)
        outputs = self.model.matcher.pair(state[:num_pairs], state[num_pairs:])
        value: LossValue = self.loss(outputs, batch.warps.to(self.model.device))
        return value
