"""Things in front of one view: what they cover has no partner in the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from reid.data.warps._photometry import Pixels


def occluded(view_HW3: Pixels, source_HW3: Pixels, generator: np.random.Generator) -> tuple[Pixels, NDArray[np.bool_]]:
    """Put something in front of a view: a rectangle or a polygon, textured by a piece of a picture or by blotches.

    Args:
        view_HW3: RGB, uint8.
        source_HW3: where a texture may be cut from, of the same size.
        generator: draws everything.

    Returns:
        The view, and where it is hidden, [H, W]; at least one pixel is.
    """
    height, width = view_HW3.shape[:2]
    hidden_HW = _shape((height, width), generator)
    texture = _piece(source_HW3, generator) if generator.random() < 0.7 else _blotches((height, width), generator)
    return np.where(hidden_HW[..., None], texture, view_HW3), hidden_HW


def _shape(size: tuple[int, int], generator: np.random.Generator) -> NDArray[np.bool_]:
    """A rectangle, or a polygon of 3 to 8 corners in it; its centre lies in the image."""
    height, width = size
    centre = generator.uniform((0.0, 0.0), (width, height))
    half = generator.uniform((0.1, 0.08), (0.3, 0.25)) * (width, height)
    if generator.random() < 0.5:
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)
    else:
        num = int(generator.integers(3, 9))
        turn = generator.uniform(0, 2 * np.pi) + np.arange(num) * 2 * np.pi / num
        corners = np.stack([np.cos(turn), np.sin(turn)], axis=1) * generator.uniform(0.6, 1.0, (num, 1))
    mask = Image.new("1", (width, height))
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in centre + corners * half], fill=1)
    hidden_HW = np.array(mask)
    hidden_HW[int(centre[1]), int(centre[0])] = True
    return hidden_HW


def _piece(source_HW3: Pixels, generator: np.random.Generator) -> Pixels:
    """The picture, mirrored or not and moved round by a quarter to three quarters: no pixel stays near its place."""
    height, width = source_HW3.shape[:2]
    down, across = generator.uniform(0.25, 0.75, 2) * (height, width)
    source_HW3 = source_HW3[:, ::-1] if generator.random() < 0.5 else source_HW3
    return np.roll(source_HW3, (int(down), int(across)), axis=(0, 1))


def _blotches(size: tuple[int, int], generator: np.random.Generator) -> Pixels:
    """A few random colours that run into each other."""
    colours = generator.integers(0, 256, (*generator.integers(1, 7, 2), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(colours).resize(size[::-1], Image.Resampling.BICUBIC))
