"""Correspondence supervision: two views of one crop, and the truth about where they match.

One view is the crop, brought to image size; the other is the crop as a motion shows it. The motion G is an analytic
function from positions of the view to positions of the crop, at which the view is sampled: so G is the truth about the
view's pixels, exactly, and its inverse, in closed form or by Newton's method, is the truth about the crop's. Which of
the two is the query is drawn.

Source: own design; strengths from homographies as SuperGlue (Sarlin et al., CVPR 2020) was trained on, and splines as
in Rocco et al., Convolutional Neural Network Architecture for Geometric Matching, CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, NonNegativeFloat, model_validator
from torch import Tensor
from torch.nn import functional

from reid.config import Config
from reid.data import _random
from reid.data.warps._draws import STRENGTHS, Level, MotionKind, draw_motion
from reid.data.warps._fields import Points
from reid.data.warps._occluders import occluded
from reid.data.warps._photometry import Pixels, retake
from reid.images import read_image
from reid.types import Warp, Warps

__all__ = ["Level", "WarpConfig", "WarpedPair", "held_out_pairs", "warped_pair"]

Share = Annotated[float, Field(ge=0, le=1)]


class WarpConfig(Config):
    """How views are made. Motions are drawn as often as their shares of the sum of the three say."""

    difficulty: Level | Literal["mixed"] = Field(
        "mixed", description="how far things move; mixed draws one for each pair"
    )
    homography: NonNegativeFloat = Field(1.0, description="share of motions that are another camera's view of a plane")
    spline: NonNegativeFloat = Field(1.0, description="share of homographies with a thin-plate spline on top")
    piecewise: NonNegativeFloat = Field(1.0, description="share of homographies with head, torso and legs moved apart")
    photometry: Share = Field(1.0, description="how much the cameras of the two views differ; 0: not at all")
    occluder: Share = Field(0.3, description="probability that a thing stands in front of one of the views")

    @model_validator(mode="after")
    def _some_motion(self) -> Self:
        if not any(self.shares):
            raise ValueError("wanted a share above 0 for homography, spline or piecewise, found none")
        return self

    @property
    def shares(self) -> tuple[float, float, float]:
        """Of homography, spline and piecewise, in any unit."""
        return self.homography, self.spline, self.piecewise


@dataclass(frozen=True, slots=True)
class WarpedPair:
    """Two images and the truth about where they match.

    Attributes:
        query, gallery: RGB, [3, H, W], uint8.
        warps: of one pair.
    """

    query: Tensor
    gallery: Tensor
    warps: Warps


def warped_pair(
    image: Image.Image, config: WarpConfig, image_size: tuple[int, int], generator: np.random.Generator
) -> WarpedPair:
    """Make two views of a crop.

    A pixel is not visible where its partner lies outside the other image, where a thing hides it or its partner, or
    where it shows what lies outside the crop, which is black. All pixels are known. Visible positions are exact to
    0.01 px.

    Args:
        image: RGB, of any size.
        config: what to draw, and how much.
        image_size: (height, width) in pixels.
        generator: draws everything.
    """
    crop_HW3 = np.array(image.resize(image_size[::-1], Image.Resampling.BICUBIC))
    level = _level(config, generator)
    kind = get_args(MotionKind)[generator.choice(3, p=np.divide(config.shares, sum(config.shares)))]
    motion = draw_motion(kind, STRENGTHS[level], image_size, generator)
    centre_2N = _centres(image_size)
    positions = [motion.inverse(centre_2N), motion.forward(centre_2N)]  # of the crop's pixels, of the view's
    inside_HW = _inside(positions[1], image_size).reshape(image_size)
    pixels, hidden = [crop_HW3, _sample(crop_HW3, positions[1], inside_HW)], [np.zeros_like(inside_HW), ~inside_HW]
    if generator.random() < config.occluder:
        front = int(generator.integers(2))
        pixels[front], mask_HW = occluded(pixels[front], crop_HW3, generator)
        hidden[front] |= mask_HW
    if config.photometry:
        pixels = [retake(view_HW3, config.photometry, generator) for view_HW3 in pixels]
    warps = [_warp(positions[own], hidden[own], hidden[1 - own]) for own in (0, 1)]
    query = int(generator.integers(2))
    images = [torch.from_numpy(view_HW3.transpose(2, 0, 1).copy()) for view_HW3 in pixels]
    return WarpedPair(images[query], images[1 - query], Warps(warps[query], warps[1 - query]))


def held_out_pairs(
    images: Sequence[Path | Image.Image], level: Level, image_size: tuple[int, int], *, seed: int = 0
) -> Iterator[WarpedPair]:
    """A fixed evaluation set: two views of each image, that depend on the image, (seed, level, n) and the size alone.

    So the set is stored by its seed. Shares, photometry and occluders are the defaults of :class:`WarpConfig`.

    Args:
        images: files or RGB images, of persons nothing was trained on.
        level: how far things move.
        image_size: (height, width) in pixels.
        seed: of the set.

    Yields:
        Pair n of image n.

    Raises:
        ImageError: a file is missing or no image.
    """
    config = WarpConfig(difficulty=level)
    for index, image in enumerate(images):
        generator = _random.generator(seed, f"held-out warps {level}", index)
        yield warped_pair(read_image(image) if isinstance(image, Path) else image, config, image_size, generator)


def _level(config: WarpConfig, generator: np.random.Generator) -> Level:
    if config.difficulty != "mixed":
        return config.difficulty
    levels: tuple[Level, ...] = get_args(Level)
    return levels[generator.integers(len(levels))]


def _centres(image_size: tuple[int, int]) -> Points:
    """Of all pixels, row by row, x and y, [2, H * W]."""
    return np.indices(image_size, np.float64).reshape(2, -1)[::-1] + 0.5


def _inside(xy_2N: NDArray[np.floating[Any]], image_size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which positions lie in the image, [N]; NaN does not."""
    x_N, y_N = xy_2N
    return np.asarray((x_N >= 0) & (x_N < image_size[1]) & (y_N >= 0) & (y_N < image_size[0]))


def _sample(crop_HW3: Pixels, xy_2N: Points, inside_HW: NDArray[np.bool_]) -> Pixels:
    """The view whose pixels show the crop at these positions, bilinearly; black where they do not lie inside."""
    height, width = inside_HW.shape
    grid_2N = np.nan_to_num(xy_2N * (2 / np.array([[width], [height]])) - 1).astype(np.float32)
    grid_1HW2 = torch.from_numpy(grid_2N).reshape(2, 1, height, width).permute(1, 2, 3, 0)
    crop_1CHW = torch.from_numpy(crop_HW3).permute(2, 0, 1)[None].float()
    view_1CHW = functional.grid_sample(crop_1CHW, grid_1HW2, padding_mode="border", align_corners=False)
    view_1CHW = view_1CHW.add_(0.5).mul_(torch.from_numpy(inside_HW))
    return np.ascontiguousarray(view_1CHW[0].to(torch.uint8).permute(1, 2, 0).numpy())


def _warp(xy_2N: Points, hidden_HW: NDArray[np.bool_], hidden_there_HW: NDArray[np.bool_]) -> Warp:
    """The truth about the pixels of one view, given where they lie in the other and what is hidden in either."""
    height, width = hidden_HW.shape
    rounded_2N = xy_2N.astype(np.float32)  # first: rounded, a position may lie on the border
    visible_N = _inside(rounded_2N, (height, width)) & ~hidden_HW.reshape(-1)
    rounded_2N[:, ~visible_N] = 0
    x_N, y_N = rounded_2N.astype(np.intp)
    visible_N &= ~hidden_there_HW[y_N, x_N]
    position_NHW2 = torch.from_numpy(rounded_2N.T.copy()).reshape(1, height, width, 2)
    visible_NHW = torch.from_numpy(visible_N).reshape(1, height, width)
    return Warp(position_NHW2, visible_NHW, torch.ones_like(visible_NHW))
