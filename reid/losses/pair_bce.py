"""Binary cross-entropy of chosen pairs: same identity or not."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from reid.errors import ShapeError
from reid.losses._base import LossConfig, LossSpec, LossValue, PairLoss
from reid.losses._rows import mean_of_rows
from reid.matchers._base import PairOutputs


class Config(LossConfig):
    """Nothing to set."""

    name: Literal["pair_bce"] = "pair_bce"


class PairBceLoss(PairLoss):
    """Read each pair's logit as one of "same identity"; the mean over pairs.

    A pair is solved if its logit has the right sign. Pairs with a non-finite logit are left out.

    Source: Tan, Yuan and Ordonez, Instance-level Image Retrieval using Reranking Transformers, ICCV 2021, eq. 6.
    """

    def __init__(self, config: Config, spec: LossSpec) -> None:  # noqa: ARG002
        super().__init__()

    def forward(self, outputs: PairOutputs, match_N: Tensor) -> LossValue:
        """See :meth:`PairLoss.forward`.

        Raises:
            ShapeError: there are not as many logits as pairs.
        """
        logit_N = outputs.logit_N
        if logit_N.shape != match_N.shape:
            raise ShapeError(f"pair_bce: wanted a logit for each of {len(match_N)} pairs, found {list(logit_N.shape)}.")
        finite_N = logit_N.isfinite()
        logit_R, match_R = logit_N[finite_N], match_N[finite_N]
        loss_R = functional.binary_cross_entropy_with_logits(logit_R, match_R.to(logit_R.dtype), reduction="none")
        return mean_of_rows(loss_R, (logit_R > 0) == match_R)


COMPONENT = PairBceLoss
