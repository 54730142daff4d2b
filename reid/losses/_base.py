"""What every loss offers: states and scores of one batch, or the outputs of chosen pairs, in; a scalar out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from reid.config import Config
from reid.matchers._base import PairOutputs
from reid.types import ImageState, Warps


class LossConfig(Config):
    """Base of the losses' tables."""


@dataclass(frozen=True, slots=True)
class LossSpec:
    """What a loss may need to know before training.

    Attributes:
        num_pids: number of identities.
        embedding_dim: channels of the states' ``embedding``, or None; as in :class:`~reid.matchers._base.MatcherInfo`.
        attended_dim: channels of the states' ``attended``, or None; likewise.
    """

    num_pids: int
    embedding_dim: int | None
    attended_dim: int | None = None


@dataclass(frozen=True, slots=True)
class LossValue:
    """Outcome of one step.

    Attributes:
        loss: scalar with gradient; None where the batch has no finite row and the step must be skipped.
        accuracy: share of rows that the loss counts as solved, 0..1.
    """

    loss: Tensor | None
    accuracy: float


class Loss(nn.Module, ABC):
    """A block loss, built as ``TheClass(config, spec)``. The file's last line is ``COMPONENT = TheClass``."""

    @abstractmethod
    def forward(self, state: ImageState, score_BB: Tensor, label_B: Tensor) -> LossValue:
        """Compute the loss of a batch scored against itself.

        Args:
            state: the batch's states, for losses on embeddings.
            score_BB: [B, B], every image against every image, rows as queries.
            label_B: identity of each image, [B], int64, 0 .. num_pids - 1.
        """


class PairLoss(nn.Module, ABC):
    """A loss on chosen pairs, built as ``TheClass(config, spec)``. The file's last line is ``COMPONENT = TheClass``."""

    @abstractmethod
    def forward(self, outputs: PairOutputs, match_N: Tensor) -> LossValue:
        """Compute the loss of N pairs.

        Args:
            outputs: what the matcher found for them.
            match_N: whether both images of a pair show the same person, [N], bool.
        """


class CorrespondenceLoss(nn.Module, ABC):
    """A loss on where pairs match, built as ``TheClass(config, spec)``; the last line is ``COMPONENT = TheClass``.

    Each loss names the child of :class:`PairOutputs` that it reads, and so the matchers it trains.
    """

    @abstractmethod
    def forward(self, outputs: PairOutputs, warps: Warps) -> LossValue:
        """Compute the loss of N pairs.

        Args:
            outputs: what the matcher found for them.
            warps: the truth about them, in pixels.

        Raises:
            ConfigError: the outputs are those of a matcher that this loss cannot train.
        """


class AuxiliaryLoss(nn.Module, ABC):
    """What trains a part that pairs cannot reach, beside a :class:`PairLoss`; built as ``TheClass(config, spec)``."""

    @abstractmethod
    def forward(self, state: ImageState, label_B: Tensor) -> LossValue:
        """Compute the loss of a batch.

        Args:
            state: the batch's states.
            label_B: identity of each image, [B], int64, 0 .. num_pids - 1.
        """
