"""What trains the attention that chooses local features: identity softmax and reconstruction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional

from reid.errors import ConfigError, ShapeError
from reid.losses._base import AuxiliaryLoss, LossConfig, LossSpec, LossValue
from reid.losses._rows import mean_of_rows
from reid.nn.dtype import at_least_float32
from reid.types import ImageState


class Config(LossConfig):
    """Defaults are DELG's."""

    name: Literal["attention"] = "attention"
    reconstruction_weight: NonNegativeFloat = Field(10.0, description="of the squared error beside the softmax loss")


class AttentionLoss(AuxiliaryLoss):
    """Softmax over training identities on the attention-weighted mean of reconstructed cells, plus their error.

    An auxiliary loss: it stands beside a loss on pairs, which cannot reach the attention because choosing the best
    cells has no gradient. An image is solved if its identity has the highest logit. Images with a non-finite field are
    left out. The classifier is trained with the loss.

    Args:
        config: see :class:`Config`.
        spec: ``attended_dim`` channels must be known.

    Raises:
        ConfigError: the matcher chooses no local features.

    Source: Cao, Araujo and Sim, Unifying Deep Local and Global Features for Image Search (DELG), ECCV 2020.
    """

    def __init__(self, config: Config, spec: LossSpec) -> None:
        super().__init__()
        if spec.attended_dim is None:
            raise ConfigError(
                "loss attention: wanted a matcher that chooses local features, found one that does not. Set the "
                "matcher's num_locals to fewer cells than its maps have, or leave this loss out."
            )
        self.config = config
        self.classifier = nn.Linear(spec.attended_dim, spec.num_pids)

    def forward(self, state: ImageState, label_B: Tensor) -> LossValue:
        """Compute the loss of a batch.

        Args:
            state: with ``attended`` [B, C] and ``reconstruction_error`` [B].
            label_B: identity of each image, [B], int64, 0 .. num_pids - 1.

        Raises:
            ShapeError: the states have no such fields, or not one for each label.
        """
        if not {"attended", "reconstruction_error"} <= state.tensors.keys() or len(state) != len(label_B):
            raise ShapeError(
                f"loss attention: wanted states with attended and reconstruction_error for {len(label_B)} labels, "
                f"found {sorted(state.tensors)} of {len(state)} images."
            )
        attended_BC, error_B = state["attended"], state["reconstruction_error"]
        finite_B = attended_BC.isfinite().all(1) & error_B.isfinite()
        label_R = label_B[finite_B]
        logit_RP = self.classifier(attended_BC[finite_B])
        logit_RP = at_least_float32(logit_RP)
        loss_R = functional.cross_entropy(logit_RP, label_R, reduction="none")
        loss_R = loss_R + self.config.reconstruction_weight * error_B[finite_B]
        return mean_of_rows(loss_R, logit_RP.argmax(1) == label_R)


COMPONENT = AttentionLoss
