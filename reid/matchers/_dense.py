"""Shared ground of dense matching: warps in pixels on grids of cells, and what a dense matcher returns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from reid.matchers._base import PairOutputs
from reid.matchers._evidence import Evidence
from reid.nn.grid import cell_centres
from reid.types import Correspondences


@dataclass(frozen=True, slots=True)
class DenseStep:
    """Where the cells of one image lie in another, at one stride, for N pairs.

    Attributes:
        stride: of the grid, pixels.
        warp_NHW2: (x, y) in pixels of the other image, for the centre of each cell, [N, H, W, 2], at least float32.
        certainty_NHW: logit of "can be seen in the other image, and lies there", [N, H, W], at least float32.
        start_NHW2: the warp that this step refined, without gradient, [N, H, W, 2]; None for the coarsest step.
    """

    stride: int
    warp_NHW2: Tensor
    certainty_NHW: Tensor
    start_NHW2: Tensor | None = None

    @property
    def centres(self) -> Tensor:
        """(x, y) of the cells' centres in pixels of their own image, [H, W, 2]."""
        _, height, width = self.certainty_NHW.shape
        return cell_centres(height, width, self.stride, self.warp_NHW2)

    def __getitem__(self, index: slice) -> DenseStep:
        start = None if self.start_NHW2 is None else self.start_NHW2[index]
        return DenseStep(self.stride, self.warp_NHW2[index], self.certainty_NHW[index], start)

    @staticmethod
    def cat(parts: Sequence[DenseStep]) -> DenseStep:
        """All pairs, in order."""
        warp_NHW2 = torch.cat([part.warp_NHW2 for part in parts])
        start_NHW2 = _cat([part.start_NHW2 for part in parts])
        return DenseStep(parts[0].stride, warp_NHW2, torch.cat([part.certainty_NHW for part in parts]), start_NHW2)


@dataclass(frozen=True, slots=True)
class DenseDirection:
    """Where N images lie in others, one way.

    Attributes:
        steps: coarse to fine.
        anchor_logit_NAHW: of the coarsest step, for each anchor, [N, A, H, W], at least float32; None where it
            regresses positions.
    """

    steps: tuple[DenseStep, ...]
    anchor_logit_NAHW: Tensor | None

    @property
    def finest(self) -> DenseStep:
        """The last step."""
        return self.steps[-1]

    def __getitem__(self, index: slice) -> DenseDirection:
        logit = None if self.anchor_logit_NAHW is None else self.anchor_logit_NAHW[index]
        return DenseDirection(tuple(step[index] for step in self.steps), logit)

    @staticmethod
    def cat(parts: Sequence[DenseDirection]) -> DenseDirection:
        """All pairs, in order."""
        steps = zip(*(part.steps for part in parts), strict=True)
        return DenseDirection(tuple(DenseStep.cat(step) for step in steps), _cat([p.anchor_logit_NAHW for p in parts]))


@dataclass(frozen=True, slots=True)
class DenseOutputs(PairOutputs):
    """What a dense matcher finds for N pairs.

    Attributes:
        to_gallery: where the query images' cells lie in the gallery images.
        to_query: where the gallery images' cells lie in the query images.
        anchor_A2: (x, y) of the anchors in pixels, [A, 2]; None where the coarsest step regresses positions.
        evidence: what scores are made of; None: it was not weighed.
    """

    to_gallery: DenseDirection
    to_query: DenseDirection
    anchor_A2: Tensor | None
    evidence: Evidence | None = None

    @property
    def other_scores(self) -> dict[str, Tensor]:
        """Those that need no labels."""
        found = self.evidence
        if found is None:
            return {}
        return {"certainty": found.certainty_N, "sim": found.similarity_N, "certainty_sim": found.certainty_sim_N}

    def matches(self) -> list[Correspondences]:
        """Where each query cell of the finest grid lies; a place outside is moved to the border, with confidence 0."""
        finest = self.to_gallery.finest
        centre_S2, warp_NS2 = finest.centres.reshape(-1, 2), finest.warp_NHW2.flatten(1, 2)
        size_2 = warp_NS2.new_tensor(finest.certainty_NHW.shape[:0:-1]) * finest.stride
        inside_NS = ((warp_NS2 > 0) & (warp_NS2 < size_2)).all(2)
        confidence_NS = finest.certainty_NHW.flatten(1).sigmoid() * inside_NS
        within_NS2 = torch.minimum(warp_NS2.clamp(min=0.5), size_2 - 0.5)
        moved_NS2 = torch.where(inside_NS[..., None], warp_NS2, within_NS2)
        return [
            Correspondences(centre_S2.float(), moved_S2.float(), confidence_S.float(), "warp")
            for moved_S2, confidence_S in zip(moved_NS2, confidence_NS, strict=True)
        ]

    @staticmethod
    def cat(parts: Sequence[DenseOutputs]) -> DenseOutputs:
        """All pairs, in order."""
        logit_N = torch.cat([part.logit_N for part in parts])
        to_gallery = DenseDirection.cat([part.to_gallery for part in parts])
        to_query = DenseDirection.cat([part.to_query for part in parts])
        weighed = [part.evidence for part in parts if part.evidence is not None]
        return DenseOutputs(
            logit_N, to_gallery, to_query, parts[0].anchor_A2, Evidence.cat(weighed) if weighed else None
        )


def sample(map_NCHW: Tensor, position_NhW2: Tensor, stride: int, *, beyond: str = "zeros") -> Tensor:
    """Read maps between their cells, bilinearly.

    Args:
        map_NCHW: [N, C, H, W].
        position_NhW2: where, (x, y) in pixels, [N, h, w, 2], of the map's dtype.
        stride: of the map, pixels.
        beyond: what lies outside the map: ``zeros``, or ``border``, what lies next to it.

    Returns:
        [N, C, h, w].
    """
    extent_2 = position_NhW2.new_tensor((map_NCHW.shape[3] * stride, map_NCHW.shape[2] * stride))
    grid_NhW2 = 2 * position_NhW2 / extent_2 - 1
    return functional.grid_sample(map_NCHW, grid_NhW2, mode="bilinear", padding_mode=beyond, align_corners=False)


def upsampled(step: DenseStep, stride: int) -> DenseStep:
    """A step's warp and certainty on a finer grid, without gradient.

    Displacements are interpolated, not positions: beyond the outermost centres these would pile up.
    """
    height, width = step.certainty_NHW.shape[1:]
    size = (height * step.stride // stride, width * step.stride // stride)
    displacement_NHW2 = step.warp_NHW2.detach() - step.centres
    both_NHW3 = torch.cat((displacement_NHW2, step.certainty_NHW.detach()[..., None]), dim=3)
    fine_N3HW = functional.interpolate(both_NHW3.permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False)
    fine_NHW2 = fine_N3HW[:, :2].permute(0, 2, 3, 1) + cell_centres(size[0], size[1], stride, step.warp_NHW2)
    return DenseStep(stride, fine_NHW2, fine_N3HW[:, 2])


def local_correlation(own_NCHW: Tensor, other_NCHW: Tensor, step: DenseStep, radius: int) -> Tensor:
    """Products of each cell's features with the other image's around where the cell lies, over the root of C.

    All products are formed and then read between cells: one matrix product, cheaper than reading features
    (2 radius + 1)^2 times while there are few thousand cells.

    Args:
        own_NCHW: features of the cells, [N, C, H, W].
        other_NCHW: of the other image, same shape.
        step: where the cells lie.
        radius: of the window, cells.

    Returns:
        [N, (2 radius + 1)^2, H, W], window row by row; 0 outside the image.
    """
    num, channels, height, width = own_NCHW.shape
    scaled_NSC = own_NCHW.flatten(2).mT / math.sqrt(channels)
    product_NSS = scaled_NSC @ other_NCHW.flatten(2)
    side = 2 * radius + 1
    window_KK2 = cell_centres(side, side, step.stride, own_NCHW) - side * step.stride / 2
    position_XKK2 = step.warp_NHW2.reshape(-1, 1, 1, 2) + window_KK2
    found_X1KK = sample(product_NSS.reshape(-1, 1, height, width), position_XKK2, step.stride)
    return found_X1KK.reshape(num, height, width, side * side).permute(0, 3, 1, 2)


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None
