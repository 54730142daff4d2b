"""Task ``block``: score a batch against itself; the loss sees the whole score matrix."""

from __future__ import annotations

from torch import nn

from reid.data.loader import TrainBatch
from reid.engine.model import Model
from reid.losses._base import Loss, LossValue


class BlockTask(nn.Module):
    """One step on a PK or graph batch, for matchers that score every pair and for embeddings."""

    def __init__(self, model: Model, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: TrainBatch) -> LossValue:
        """Loss of a batch."""
        state = self.model(batch.inputs)
        score_BB = self.model.matcher.score(state, state)
        value: LossValue = self.loss(state, score_BB.float(), batch.label_B.to(score_BB.device))
        return value
