"""Keypoints of an image: where they are, and how a feature map describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid.matchers._dense import sample
from reid.matchers._message_passing import PointNormName, PointPerceptron
from reid.nn.dtype import at_least_float32
from reid.nn.grid import cell_centres

ENCODER_WIDTHS = (32, 64, 128, 256)
"""Of the keypoint encoder's hidden layers, as published."""


@dataclass(frozen=True, slots=True)
class Keypoints:
    """K places of each of N images.

    Attributes:
        point_NK2: (x, y) in pixels, [N, K, 2], at least float32; the centre of the first pixel is (0.5, 0.5).
        confidence_NK: how salient the place is, [N, K], at least float32, 0..1. It has no gradient.
        mask_NK: which there are, [N, K], bool; None: all. The others are padding, and always the last.
    """

    point_NK2: Tensor
    confidence_NK: Tensor
    mask_NK: Tensor | None = None


@torch.no_grad()
def saliency(map_BCHW: Tensor) -> Tensor:
    """Length of each cell's features, less the image's mean, in standard deviations, [B, H, W], at least float32."""
    wide_BCHW = at_least_float32(map_BCHW)
    norm_BHW = torch.linalg.vector_norm(wide_BCHW, dim=1)
    mean_B11 = norm_BHW.mean((1, 2), keepdim=True)
    deviation_B11 = norm_BHW.std((1, 2), correction=0, keepdim=True)
    scale_B11 = (deviation_B11 + 1e-6 * mean_B11).clamp(min=torch.finfo(norm_BHW.dtype).tiny)  # of a constant map too
    found_BHW: Tensor = (norm_BHW - mean_B11) / scale_B11
    return found_BHW


def grid_keypoints(map_BCHW: Tensor, stride: int) -> Keypoints:
    """Every cell's centre, row by row."""
    confidence_BHW = saliency(map_BCHW).sigmoid()
    height, width = confidence_BHW.shape[1:]
    point_S2 = cell_centres(height, width, stride, confidence_BHW).flatten(0, 1)
    return Keypoints(point_S2.repeat(len(map_BCHW), 1, 1), confidence_BHW.flatten(1))


def salient_keypoints(map_BCHW: Tensor, stride: int, num: int) -> Keypoints:
    """The most salient cells, those that stand out among their eight neighbours first.

    Such a cell's point is the mean of the centres of its 3 x 3 cells, weighted by the softmax of their saliency; other
    cells, which fill up what is missing, have their centre.

    Args:
        map_BCHW: feature map, [B, C, H, W].
        stride: pixels from cell to cell.
        num: keypoints of an image, K; beyond H * W they are padding.
    """
    saliency_BHW = saliency(map_BCHW)
    highest_BHW = functional.max_pool2d(saliency_BHW, 3, stride=1, padding=1)
    peak_BS = (saliency_BHW == highest_BHW).flatten(1)
    saliency_BS = saliency_BHW.flatten(1)
    order_BS = saliency_BS.argsort(dim=1, descending=True, stable=True)
    peaks_first_BS = peak_BS.gather(1, order_BS).byte().argsort(dim=1, descending=True, stable=True)
    cell_BK = order_BS.gather(1, peaks_first_BS)[:, :num]
    height, width = saliency_BHW.shape[1:]
    centre_S2 = cell_centres(height, width, stride, saliency_BS).flatten(0, 1)
    offset_BS2 = stride * _offsets(saliency_BHW) * peak_BS[:, :, None]
    point_BK2 = (centre_S2 + offset_BS2).gather(1, cell_BK[:, :, None].expand(-1, -1, 2))
    confidence_BK = saliency_BS.gather(1, cell_BK).sigmoid()
    missing = num - cell_BK.shape[1]
    if missing <= 0:
        return Keypoints(point_BK2, confidence_BK)
    mask_BK = (torch.arange(num, device=map_BCHW.device) < cell_BK.shape[1]).repeat(len(map_BCHW), 1)
    point_BK2 = functional.pad(point_BK2, (0, 0, 0, missing), value=0.5 * stride)
    return Keypoints(point_BK2, functional.pad(confidence_BK, (0, missing)), mask_BK)


def _offsets(saliency_BHW: Tensor) -> Tensor:
    """From each cell's centre to the softmax-weighted mean of its 3 x 3 cells' centres, (x, y) in cells, [B, S, 2]."""
    beyond = torch.finfo(saliency_BHW.dtype).min  # cells outside of the map have no weight
    window_B9S = functional.unfold(functional.pad(saliency_BHW[:, None], (1, 1, 1, 1), value=beyond), 3)
    share_BS9 = window_B9S.softmax(1).transpose(1, 2)
    step_9 = torch.arange(9, device=saliency_BHW.device)
    step_92 = torch.stack((step_9 % 3, step_9 // 3), dim=1) - 1
    return share_BS9 @ step_92.to(share_BS9.dtype)


class Described(NamedTuple):
    """K keypoints of each of B images, with D channels each.

    Attributes:
        keypoints: where they are.
        descriptor_BKD: what the map has there, projected, of unit length.
        token_BKD: the same, and what the encoder adds for the place.
    """

    keypoints: Keypoints
    descriptor_BKD: Tensor
    token_BKD: Tensor


class KeypointEncoder(nn.Module):
    """Find keypoints in a feature map and describe them.

    Args:
        map_shape: (C, H, W) of the map.
        image_size: (height, width), pixels.
        stride: pixels from cell to cell.
        dim: channels of a keypoint, D.
        num_salient: how many salient keypoints of an image; None: a grid of all cells.
        norm: of the perceptron on the place; None: keypoints do not know where they are.

    Source: Sarlin et al., SuperGlue, CVPR 2020, eq. 2. Positions are centred and divided by 0.7 of the longer side;
    the confidence is the saliency.
    """

    def __init__(
        self,
        map_shape: tuple[int, int, int],
        *,
        image_size: tuple[int, int],
        stride: int,
        dim: int,
        num_salient: int | None,
        norm: PointNormName | None,
    ) -> None:
        super().__init__()
        channels, height, width = map_shape
        self.image_size, self.stride, self.num_salient = image_size, stride, num_salient
        self.num_keypoints = num_salient or height * width
        self.project = nn.Conv2d(channels, dim, 1)
        self.position = None if norm is None else PointPerceptron((3, *ENCODER_WIDTHS, dim), norm)

    def forward(self, map_BCHW: Tensor) -> Described:
        """Keypoints of B images, [B, C, H, W]."""
        projected_BDHW = at_least_float32(self.project(map_BCHW))
        if self.num_salient is None:
            keypoints = grid_keypoints(map_BCHW, self.stride)
            features_BKD = projected_BDHW.flatten(2).transpose(1, 2)
        else:
            keypoints = salient_keypoints(map_BCHW, self.stride, self.num_salient)
            features_BKD = _read_at(projected_BDHW, keypoints.point_NK2, self.stride)
        descriptor_BKD = functional.normalize(features_BKD, dim=2)
        if self.position is None:
            return Described(keypoints, descriptor_BKD, descriptor_BKD)
        placed_BK3 = self._placed(keypoints).to(self.project.weight.dtype)
        return Described(keypoints, descriptor_BKD, descriptor_BKD + self.position(placed_BK3, keypoints.mask_NK))

    def _placed(self, keypoints: Keypoints) -> Tensor:
        """x, y and saliency, [B, K, 3]."""
        height, width = self.image_size
        centre_2 = keypoints.point_NK2.new_tensor((width / 2, height / 2))
        place_BK2 = (keypoints.point_NK2 - centre_2) / (0.7 * max(self.image_size))
        return torch.cat((place_BK2, keypoints.confidence_NK[:, :, None]), dim=2)


def _read_at(map_BDHW: Tensor, point_BK2: Tensor, stride: int) -> Tensor:
    """A map's features at points in pixels, bilinearly, [B, K, D]."""
    with torch.autocast(map_BDHW.device.type, enabled=False):
        read_BD1K = sample(map_BDHW, point_BK2[:, None].to(map_BDHW.dtype), stride, beyond="border")
    return read_BD1K[:, :, 0].transpose(1, 2)
