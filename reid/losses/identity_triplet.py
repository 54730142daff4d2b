"""Identity softmax and batch-hard triplet: the loss of global embeddings."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional

from reid.errors import ConfigError, ShapeError
from reid.losses._base import Loss, LossConfig, LossSpec, LossValue
from reid.losses._rows import hardest, mean_of_rows
from reid.types import ImageState


class Config(LossConfig):
    """Defaults are the strong baseline's."""

    name: Literal["identity_triplet"] = "identity_triplet"
    margin: PositiveFloat | Literal["soft"] = Field(0.3, description="in feature distance; 'soft': log(1 + exp(.))")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="share of the target spread over all identities")


class IdentityTripletLoss(Loss):
    """Softmax over training identities on the normalised feature, plus Euclidean batch-hard triplet on the pooled one.

    A row is solved if the farthest image of its identity is no farther than the nearest of any other. A row without
    another image of its identity has no triplet part. Rows with a non-finite feature are left out. The classifier has
    no bias, and is trained with the loss.

    Args:
        config: see :class:`Config`.
        spec: ``embedding_dim`` channels must be known.

    Source: Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, CVPR Workshops 2019;
    'soft' margin: Hermans et al., In Defense of the Triplet Loss, 2017.
    """

    def __init__(self, config: Config, spec: LossSpec) -> None:
        super().__init__()
        if spec.embedding_dim is None:
            raise ConfigError(
                "loss identity_triplet: wanted a matcher of kind 'embedding', found one without an embedding. "
                "Use the loss 'pairwise' or 'triplet', which read scores."
            )
        self.config = config
        self.classifier = nn.Linear(spec.embedding_dim, spec.num_pids, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)  # as published: all identities start equally likely

    def forward(self, state: ImageState, score_BB: Tensor, label_B: Tensor) -> LossValue:  # noqa: ARG002
        """See :meth:`Loss.forward`.

        Raises:
            ShapeError: the states have no ``pooled`` and ``normed`` features.
        """
        if not {"pooled", "normed"} <= state.tensors.keys():
            raise ShapeError(
                f"loss identity_triplet: wanted states with pooled and normed, found {sorted(state.tensors)}."
            )
        finite_B = state["pooled"].isfinite().all(1) & state["normed"].isfinite().all(1)
        label_R = label_B[finite_B]
        if len(label_R) == 0:
            return LossValue(None, 0.0)
        logit_RP = self.classifier(state["normed"][finite_B]).float()
        loss_R = functional.cross_entropy(
            logit_RP, label_R, label_smoothing=self.config.label_smoothing, reduction="none"
        )
        pooled_RD = state["pooled"][finite_B].float()
        # Exact differences: the product form of the distance loses the small ones, whose gradients are the largest.
        distance_RR = torch.cdist(pooled_RD, pooled_RD, compute_mode="donot_use_mm_for_euclid_dist")
        found = hardest(-distance_RR, label_R)
        gap_R = found.negative_B - found.positive_B
        soft = self.config.margin == "soft"
        triplet_R = functional.softplus(gap_R) if soft else (gap_R + float(self.config.margin)).relu()
        return mean_of_rows(loss_R + triplet_R, found.positive_B >= found.negative_B)


COMPONENT = IdentityTripletLoss
