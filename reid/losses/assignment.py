"""Negative log-likelihood of an assignment of keypoints, and the labels that a true warp gives them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from reid.errors import ConfigError, ShapeError
from reid.losses._base import CorrespondenceLoss, LossConfig, LossSpec, LossValue
from reid.matchers._assignment import AssignmentOutputs
from reid.matchers._base import PairOutputs
from reid.nn.truth import Spots, truth_at
from reid.types import Warp, Warps


class Config(LossConfig):
    """Thresholds on how far apart two keypoints are that show the same thing.

    A grid's are in cells: with the published 3 pixels hardly a tenth of the cells of a stride-16 grid would match.
    A visible point of the image is at most 0.707 cells from the nearest cell's centre.
    """

    name: Literal["assignment"] = "assignment"
    positive_cells: PositiveFloat = Field(0.71, description="of a grid: a positive pair is closer, in both images")
    negative_cells: PositiveFloat = Field(
        1.0, description="of a grid: an unmatched keypoint is farther from all others"
    )
    positive_px: PositiveFloat = Field(3.0, description="the same for salient keypoints, pixels; as published")
    negative_px: PositiveFloat = Field(5.0, description="the same for salient keypoints, pixels; as published")
    unmatched_share: float = Field(0.5, ge=0, le=1, description="of the loss that is the unmatched keypoints'")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.positive_cells > self.negative_cells or self.positive_px > self.negative_px:
            raise ConfigError(
                "loss assignment: wanted positive thresholds that are not above the negative ones, found "
                f"{self.positive_cells} and {self.negative_cells} cells, {self.positive_px} and {self.negative_px} px."
            )
        return self

    def limits_px(self, cell_px: float | None) -> tuple[float, float]:
        """The positive and the negative threshold in pixels.

        Args:
            cell_px: side of the cells whose centres the keypoints are, pixels; None: they are no grid.
        """
        if cell_px is None:
            return self.positive_px, self.negative_px
        return self.positive_cells * cell_px, self.negative_cells * cell_px


@dataclass(frozen=True, slots=True)
class AssignmentLabels:
    """What is true about the keypoints of N pairs. One that is neither matched nor unmatched has no label.

    Attributes:
        gallery_idx_NK: the gallery keypoint that shows the same as a query keypoint, [N, K], int64; -1: none.
        query_alone_NK: which query keypoints have no partner for sure, [N, K], bool.
        gallery_alone_NK: likewise.
    """

    gallery_idx_NK: Tensor
    query_alone_NK: Tensor
    gallery_alone_NK: Tensor

    @property
    def matched_NK(self) -> Tensor:  # noqa: N802
        """Which query keypoints have a partner, [N, K], bool."""
        return self.gallery_idx_NK >= 0


class AssignmentLoss(CorrespondenceLoss):
    """Log-likelihood of true matches and, at the dustbins, of keypoints without a partner; each kind by its mean.

    A pair's loss is half the mean over its matches, half the mean over unmatched keypoints of both images; the loss is
    the mean over pairs with any of them. Solved is a matched query keypoint whose mass is largest at its partner, the
    dustbin included. Pairs with an assignment that is not finite are left out.

    Args:
        config: see :class:`Config`.
        spec: nothing of it is used.

    Source: Sarlin et al., SuperGlue, CVPR 2020, eq. 10 and appendix E for the labels; balanced as in glue-factory
    (Lindenberger, Sarlin and Pollefeys, LightGlue, ICCV 2023).
    """

    def __init__(self, config: Config, spec: LossSpec) -> None:  # noqa: ARG002
        super().__init__()
        self.config = config

    def forward(self, outputs: PairOutputs, warps: Warps) -> LossValue:
        """See :meth:`CorrespondenceLoss.forward`.

        Raises:
            ShapeError: there are not as many warps as pairs.
        """
        outputs = _assignments(outputs)
        labels = assignment_labels(outputs, warps, self.config)
        log_NKK = outputs.log_assignment_NKK
        matched_NK = labels.matched_NK
        own_NK1 = log_NKK[:, :-1].gather(2, labels.gallery_idx_NK.clamp(min=0)[:, :, None])
        match_N = _mean(-own_NK1[:, :, 0], matched_NK)
        alone = torch.cat((log_NKK[:, :-1, -1], log_NKK[:, -1, :-1]), dim=1)
        is_alone = torch.cat((labels.query_alone_NK, labels.gallery_alone_NK), dim=1)
        share = self.config.unmatched_share
        loss_N = (1 - share) * match_N + share * _mean(-alone, is_alone)
        finite_N = log_NKK.detach().flatten(1).isfinite().all(1)
        learns_N = finite_N & (matched_NK.any(1) | is_alone.any(1))
        if not learns_N.any():
            return LossValue(None, 0.0)
        counted_NK = matched_NK & finite_N[:, None]
        right_NK = log_NKK[:, :-1].argmax(2) == labels.gallery_idx_NK
        accuracy = float(right_NK[counted_NK].sum() / counted_NK.sum().clamp(min=1))
        return LossValue(loss_N[learns_N].mean(), accuracy)


def _assignments(outputs: PairOutputs) -> AssignmentOutputs:
    if not isinstance(outputs, AssignmentOutputs):
        raise ConfigError(
            f"loss assignment: wanted a matcher that assigns keypoints, such as superglue, found one that returns "
            f"{type(outputs).__name__}. Choose another loss or matcher."
        )
    return outputs


def _mean(loss_NX: Tensor, counts_NX: Tensor) -> Tensor:
    """Of what counts, of each pair, [N]; 0 where nothing does."""
    return loss_NX.masked_fill(~counts_NX, 0).sum(1) / counts_NX.sum(1).clamp(min=1)


@torch.no_grad()
def assignment_labels(outputs: AssignmentOutputs, warps: Warps, config: Config) -> AssignmentLabels:
    """Labels of the keypoints of N pairs.

    Two keypoints match if each is the other's nearest, and closer than the positive threshold; distances are the larger
    of the two, in the query and in the gallery image. A keypoint is alone if the other image does not show it, or none
    of that image's keypoints is within the negative threshold of where it does.

    Args:
        outputs: their points and masks are read.
        warps: the truth, in pixels.
        config: thresholds.

    Raises:
        ShapeError: there are not as many warps as pairs.
    """
    if len(outputs.log_assignment_NKK) != len(warps):
        raise ShapeError(
            f"loss assignment: wanted a warp for each of {len(outputs.log_assignment_NKK)} pairs, found {len(warps)}."
        )
    positive_px, negative_px = config.limits_px(outputs.cell_px)
    query = _spots(outputs.query_point_NK2, outputs.query_mask_NK, warps.to_gallery)
    gallery = _spots(outputs.gallery_point_NK2, outputs.gallery_mask_NK, warps.to_query)
    in_gallery_NKL = _distances(query.position_NK2, outputs.gallery_point_NK2, outputs.gallery_mask_NK)
    in_query_NLK = _distances(gallery.position_NK2, outputs.query_point_NK2, outputs.query_mask_NK)
    far_NKL = torch.maximum(in_gallery_NKL, in_query_NLK.transpose(1, 2))
    far_NKL = far_NKL.masked_fill(~(query.seen_NK[:, :, None] & gallery.seen_NK[:, None]), torch.inf)
    nearest = far_NKL.min(2)
    back_NK = far_NKL.argmin(1).gather(1, nearest.indices)
    mutual_NK = back_NK == torch.arange(back_NK.shape[1], device=back_NK.device)
    match_NK = mutual_NK & (nearest.values < positive_px)
    return AssignmentLabels(
        nearest.indices.masked_fill(~match_NK, -1),
        query.hidden_NK | (query.seen_NK & (in_gallery_NKL.amin(2) > negative_px)),
        gallery.hidden_NK | (gallery.seen_NK & (in_query_NLK.amin(2) > negative_px)),
    )


def _spots(point_NK2: Tensor, mask_NK: Tensor | None, warp: Warp) -> Spots:
    """The truth at keypoints; nothing is known of padding."""
    spots = truth_at(warp, point_NK2.nan_to_num())  # the loss leaves out what is not finite
    return spots if mask_NK is None else replace(spots, known_NK=spots.known_NK & mask_NK)


def _distances(place_NK2: Tensor, point_NL2: Tensor, mask_NL: Tensor | None) -> Tensor:
    """From places to the other image's keypoints, [N, K, L]; infinite to padding."""
    far_NKL = torch.cdist(place_NK2, point_NL2, compute_mode="donot_use_mm_for_euclid_dist")
    return far_NKL if mask_NL is None else far_NKL.masked_fill(~mask_NL[:, None], torch.inf)


COMPONENT = AssignmentLoss
