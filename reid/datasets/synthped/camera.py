"""How a camera sees: optics, exposure, colour, noise and compression, for many images at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid.datasets.synthped.people import Floats


@dataclass(frozen=True, slots=True)
class Exposure:
    """How N images were taken; every field has the leading dimension [N].

    Attributes:
        blur_y, blur_x: standard deviation of the blur down and across, pixels. sharpen: strength of the camera's
            own sharpening, 0..1. gain: colour gains, [N, 3]. gamma: of the tone curve; below 1 lifts shadows.
        saturation: 1 keeps colours. haze: veiling light, 0..1. noise: standard deviation at mid grey.
        grain: size of the noise's grain, pixels. vignette: darkening to one side, [N, 2].
    """

    blur_y: Floats
    blur_x: Floats
    sharpen: Floats
    gain: Floats
    gamma: Floats
    saturation: Floats
    haze: Floats
    noise: Floats
    grain: Floats
    vignette: Floats


def resample(picture: Floats, box: tuple[float, float, float, float], size: tuple[int, int]) -> Floats:
    """Cut a box out of a picture and bring it to a size; outside the picture everything is 0.

    Args:
        picture: [H, W, C] float32.
        box: (left, top, right, bottom) in pixels of the picture.
        size: (height, width) of the result.

    Returns:
        [height, width, C] float32, averaged where it shrinks, interpolated linearly where it grows.
    """
    left, top, right, bottom = box
    rows, first_row = _weights(top, bottom, size[0], picture.shape[0])
    columns, first_column = _weights(left, right, size[1], picture.shape[1])
    piece = picture[first_row : first_row + rows.shape[1], first_column : first_column + columns.shape[1]]
    channels = picture.shape[2]
    across = np.matmul(columns, piece).reshape(len(piece), size[1] * channels)
    return np.asarray(np.matmul(rows, across).reshape(*size, channels), np.float32)


def _weights(start: float, end: float, num: int, limit: int) -> tuple[Floats, int]:
    """Tent weights [num, K] and the first of the K source pixels they belong to."""
    step = (end - start) / num
    reach = max(step, 1.0)
    first = int(np.floor(min(start, end) - reach - 1))
    source = np.arange(first, int(max(start, end) + reach) + 2)
    centre = start + (np.arange(num) + 0.5) * step
    weight = np.maximum(0, 1 - np.abs(centre[:, None] - (source + 0.5)) / reach)
    weight /= weight.sum(axis=1, keepdims=True)
    inside = (source >= 0) & (source < limit)
    return weight[:, inside].astype(np.float32), max(first, 0) if inside.any() else 0


def noise_planes(seeds: Sequence[int], size: tuple[int, int]) -> Floats:
    """White noise of unit variance, [N, 3, H, W], each image from its own seed."""
    planes = [np.random.default_rng(seed).standard_normal((3, *size), dtype=np.float32) for seed in seeds]
    return np.stack(planes)


def take_pictures(linear: Floats, exposure: Exposure, noise: Floats) -> NDArray[np.uint8]:
    """Form images.

    Args:
        linear: light that arrives, [N, H, W, 3] float32, 0..about 1.5.
        exposure: of the same N images.
        noise: from :func:`noise_planes`.

    Returns:
        [N, H, W, 3] uint8.
    """
    height, width = linear.shape[1:3]
    light = linear * exposure.gain[:, None, None, :] * _vignette(exposure, height, width)
    planes = _optics(np.moveaxis(light, 3, 1), exposure)
    tone = np.clip(planes, 1e-4, None) ** exposure.gamma[:, None, None, None]
    tone = tone / (1 + np.maximum(tone - 0.75, 0) * 0.7)
    tone = tone * (1 - _spread(exposure.haze)) + 0.75 * _spread(exposure.haze)
    grey = tone.mean(axis=1, keepdims=True)
    tone = grey + (tone - grey) * _spread(exposure.saturation)
    tone = tone + _grain(noise, exposure) * _spread(exposure.noise)
    return np.moveaxis(np.clip(tone * 255 + 0.5, 0, 255).astype(np.uint8), 1, 3)


def _spread(value: Floats) -> Floats:
    return value[:, None, None, None]


def _vignette(exposure: Exposure, height: int, width: int) -> Floats:
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    slope = exposure.vignette
    fall = 1 + slope[:, 0, None, None] * y[:, None] + slope[:, 1, None, None] * x
    return np.maximum(fall, 0.2)[..., None]


def _gauss(sigma: Floats, num: int) -> Floats:
    """Blur along one direction as matrices, [N, num, num]; the picture continues as it ends."""
    place = np.arange(num, dtype=np.float32)
    distance = (place[:, None] - place) / np.maximum(sigma, 0.12)[:, None, None]
    weight = np.exp(-0.5 * np.minimum(distance**2, 60))
    return np.asarray(weight / weight.sum(axis=2, keepdims=True), np.float32)


def _optics(planes: Floats, exposure: Exposure) -> Floats:
    """Blur [N, 3, H, W] and sharpen it again as surveillance cameras do, with bright seams along edges."""
    height, width = planes.shape[2:]
    down, across = _gauss(exposure.blur_y, height), _gauss(exposure.blur_x, width)
    sharp = np.matmul(np.matmul(down[:, None], planes), across[:, None].transpose(0, 1, 3, 2))
    wide = np.float32(1.2)
    soft_down, soft_across = _gauss(exposure.blur_y + wide, height), _gauss(exposure.blur_x + wide, width)
    soft = np.matmul(np.matmul(soft_down[:, None], sharp), soft_across[:, None].transpose(0, 1, 3, 2))
    return np.asarray(sharp + _spread(exposure.sharpen) * (sharp - soft), np.float32)


def _grain(white: Floats, exposure: Exposure) -> Floats:
    """Noise of about unit strength, partly the same in all colours, as coarse as the camera's pixels."""
    height, width = white.shape[2:]
    mixed = np.float32(0.75) * white[:, :1] + np.float32(0.5) * white
    down, across = _gauss(exposure.grain, height), _gauss(exposure.grain, width)
    down = down / np.sqrt((down**2).sum(axis=2, keepdims=True))
    across = across / np.sqrt((across**2).sum(axis=2, keepdims=True))
    return np.asarray(np.matmul(np.matmul(down[:, None], mixed), across[:, None].transpose(0, 1, 3, 2)))
