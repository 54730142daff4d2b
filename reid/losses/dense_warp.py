"""What trains dense matching: anchors by cross-entropy, refined warps by a robust regression, certainty beside them."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional

from reid.errors import ConfigError, ShapeError
from reid.losses._base import CorrespondenceLoss, LossConfig, LossSpec, LossValue
from reid.matchers._base import PairOutputs
from reid.matchers._dense import DenseDirection, DenseOutputs, DenseStep
from reid.nn.grid import cell_centres
from reid.nn.truth import truth_at
from reid.types import Warp, Warps

SOLVED_PX = 4.0
"""A cell of the finest grid that is found this near is solved."""


class Config(LossConfig):
    """Defaults are RoMa's, in pixels; the gate is halved because a crop is a few hundred pixels, not 512, wide."""

    name: Literal["dense_warp"] = "dense_warp"
    robust: bool = Field(
        True, description="of refiners: (e^2 + (c s)^2)^(alpha / 2), stride s; false: the error e itself"
    )
    alpha: PositiveFloat = Field(0.5, description="how slowly the robust loss grows; outliers pull by e^(alpha - 1)")
    c_px: PositiveFloat = Field(0.03, description="error below which the robust loss is quadratic, times the stride")
    gate: PositiveFloat = Field(
        4.0, description="strides: a refiner learns where the warp it starts from is nearer than this to the truth"
    )
    certainty_weight: NonNegativeFloat = Field(0.01, description="of the certainty's cross-entropy")


class DenseWarpLoss(CorrespondenceLoss):
    """Sum over strides of a loss on places, where they are visible, and one on certainty, where that is known.

    Coarse: cross-entropy of the anchor nearest the truth, or, of a regressed position, the mean error in pixels.
    Refiners: the mean of a generalised Charbonnier loss of the error in pixels, whose gradient grows with the error up
    to about ``c_px * stride`` and falls with its root beyond: a wrong coarse match is not for a refiner to repair. For
    the same reason a refiner finer than the coarse step learns, and is to be certain, only where it starts near the
    truth. Means are over the cells of both directions; a mean over nothing is left out.

    The accuracy is the share of visible cells that the finest warp finds to within 4 px.

    Args:
        config: see :class:`Config`.
        spec: nothing of it is needed.

    Source: Edstedt et al., RoMa, CVPR 2024, eq. 10-13, and its released code (MIT), with the gates of the latter;
    regression: DKM, CVPR 2023. Differs: c = 0.03 is meant in pixels, as the code's 1e-4 of half of 560 comes to.
    """

    def __init__(self, config: Config, spec: LossSpec) -> None:  # noqa: ARG002
        super().__init__()
        self.config = config

    def forward(self, outputs: PairOutputs, warps: Warps) -> LossValue:
        """See :meth:`CorrespondenceLoss.forward`.

        Raises:
            ConfigError: the matcher does not match densely.
            ShapeError: the truth is of other images than the outputs.
        """
        if not isinstance(outputs, DenseOutputs):
            raise ConfigError(
                f"loss dense_warp: wanted the outputs of a dense matcher such as roma, found {type(outputs).__name__}. "
                "Choose the loss that belongs to the matcher."
            )
        found = DenseDirection.cat((outputs.to_gallery, outputs.to_query))
        truth = Warp.cat((warps.to_gallery, warps.to_query))
        coarse, *fine = (_target(step, truth) for step in found.steps)
        terms = self._coarse(found, outputs.anchor_A2, coarse)
        for step, target in zip(found.steps[1:], fine, strict=True):
            terms += self._refined(step, target, gated=step.stride < found.steps[0].stride)
        learned = [term for term in terms if term is not None]
        last = [coarse, *fine][-1]
        error_R = _error(found.finest.warp_NHW2, last.position_NHW2)[last.visible_NHW]
        accuracy = float((error_R < SOLVED_PX).float().mean()) if len(error_R) else 0.0
        return LossValue(torch.stack(learned).sum() if learned else None, accuracy)

    def _coarse(self, found: DenseDirection, anchor_A2: Tensor | None, target: Warp) -> list[Tensor | None]:
        step, logit_NAHW = found.steps[0], found.anchor_logit_NAHW
        certainty = self._certainty(step, target)
        if logit_NAHW is None or anchor_A2 is None:
            return [_mean(_error(step.warp_NHW2, target.position_NHW2)[target.visible_NHW]), certainty]
        position_R2 = target.position_NHW2[target.visible_NHW]
        distance_RA = torch.cdist(
            position_R2, anchor_A2.to(position_R2.dtype), compute_mode="donot_use_mm_for_euclid_dist"
        )
        nearest_R = distance_RA.argmin(1)
        logit_RA = logit_NAHW.permute(0, 2, 3, 1)[target.visible_NHW]
        return [_mean(functional.cross_entropy(logit_RA, nearest_R, reduction="none")), certainty]

    def _refined(self, step: DenseStep, target: Warp, *, gated: bool) -> list[Tensor | None]:
        if gated and step.start_NHW2 is not None:
            near_NHW = _error(step.start_NHW2, target.position_NHW2) < self.config.gate * step.stride
            target = Warp(target.position_NHW2, target.visible_NHW & near_NHW, target.known_NHW)
        miss_R2 = (step.warp_NHW2 - target.position_NHW2)[target.visible_NHW]
        return [_mean(self._penalty(miss_R2, step.stride)), self._certainty(step, target)]

    def _penalty(self, miss_R2: Tensor, stride: int) -> Tensor:
        if not self.config.robust:
            return _length(miss_R2)
        squared_R = miss_R2.square().sum(1)
        penalty_R: Tensor = (squared_R + (self.config.c_px * stride) ** 2) ** (self.config.alpha / 2)
        return penalty_R

    def _certainty(self, step: DenseStep, target: Warp) -> Tensor | None:
        logit_R = step.certainty_NHW[target.known_NHW]
        visible_R = target.visible_NHW[target.known_NHW].to(logit_R.dtype)
        mean = _mean(functional.binary_cross_entropy_with_logits(logit_R, visible_R, reduction="none"))
        return None if mean is None else self.config.certainty_weight * mean


def at_stride(truth: Warp, stride: int) -> Warp:
    """The truth about the centres of a grid's cells, by :func:`reid.nn.truth.truth_at`.

    A cell of which some pixels at the centre are visible and some not, or that land far apart, is on an outline, where
    there is no truth about it: it is not known.

    Args:
        truth: at each pixel, [N, H, W].
        stride: of the grid, pixels; H and W are multiples of it.

    Returns:
        at each cell, [N, H / stride, W / stride]; visible only where known.
    """
    num, height, width = truth.visible_NHW.shape
    shape = num, height // stride, width // stride
    centre_HW2 = cell_centres(*shape[1:], stride, truth.position_NHW2)
    spots = truth_at(truth, centre_HW2.flatten(0, 1).expand(num, -1, 2))
    return Warp(spots.position_NK2.view(*shape, 2), spots.seen_NK.view(shape), spots.known_NK.view(shape))


def _target(step: DenseStep, truth: Warp) -> Warp:
    """The truth at a step's cells; what is not finite there is left out."""
    num, height, width = step.certainty_NHW.shape
    wanted, found = (num, height * step.stride, width * step.stride), tuple(truth.visible_NHW.shape)
    if wanted != found:
        raise ShapeError(
            f"loss dense_warp: wanted the truth about {wanted[0] // 2} pairs of images of {wanted[1]} x {wanted[2]}, "
            f"both ways, found {found[0] // 2} of {found[1]} x {found[2]}."
        )
    target = at_stride(truth, step.stride)
    finite_NHW = step.certainty_NHW.isfinite() & step.warp_NHW2.isfinite().all(3)
    position_NHW2 = target.position_NHW2.to(step.warp_NHW2.dtype)
    return Warp(position_NHW2, target.visible_NHW & finite_NHW, target.known_NHW & finite_NHW)


def _error(warp_NHW2: Tensor, position_NHW2: Tensor) -> Tensor:
    return _length(warp_NHW2 - position_NHW2)


def _length(miss_X2: Tensor) -> Tensor:
    length_X: Tensor = torch.linalg.vector_norm(miss_X2, dim=-1)
    return length_X


def _mean(value_R: Tensor) -> Tensor | None:
    return value_R.mean() if len(value_R) else None


COMPONENT = DenseWarpLoss
