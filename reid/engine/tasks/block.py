"""Task ``block``: score a batch against itself; the loss sees the whole score matrix."""

from __future__ import annotations

from torch import Tensor, nn

from reid.engine.model import Model
from reid.losses._base import Loss, LossValue
from reid.types import FeatureMaps


class BlockTask(nn.Module):
    """One step on a PK or graph batch, for matchers that score every pair and for embeddings."""

    def __init__(self, model: Model, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, inputs: Tensor | FeatureMaps, label_B: Tensor) -> LossValue:
        """Loss of a batch.

        Args:
            inputs: as :meth:`reid.engine.model.Model.forward` takes it.
            label_B: identity of each image, [B], int64, from 0.
        """
        state = self.model(inputs)
        score_BB = self.model.matcher.score(state, state)
        value: LossValue = self.loss(state, score_BB.float(), label_B.to(score_BB.device))
        return value
