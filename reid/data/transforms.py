"""From a picture to a uint8 tensor, for testing and, with the published augmentation, for training.

Source: the augmentation of TransMatcher (Liao and Shao, NeurIPS 2021) and QAConv-GS (Liao and Shao, CVPR 2022).
Images stay PIL images throughout, so that every byte is that of the released pipeline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from PIL import Image, ImageEnhance
from pydantic import AfterValidator, Field, NonNegativeInt
from torch import Tensor

from reid.config import Config
from reid.data._random import Draws
from reid.errors import ConfigError


def _ordered(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"wanted [smallest, largest], found {list(values)}")
    return values


Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(ge=0, allow_inf_nan=False)]
FactorRange = Annotated[tuple[Factor, Factor], AfterValidator(_ordered)]


class AugmentConfig(Config):
    """How training images are varied. Defaults are the published augmentation of 384 x 128 images.

    Each part has a value that switches it off: 0, or [1, 1] for the ranges of factors.
    """

    pad_px: NonNegativeInt = Field(
        10, description="black border, in pixels of the resized image, of which a crop of image size is kept"
    )
    flip: Share = Field(0.5, description="probability of mirroring left and right")
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = Field(
        5.0, description="largest angle either way; corners become black"
    )
    brightness: FactorRange = Field((0.5, 2.0), description="1 leaves the image as it is, 0 makes it black")
    contrast: FactorRange = Field((0.5, 2.0), description="1 leaves the image as it is, 0 makes it grey all over")
    saturation: FactorRange = Field((0.5, 2.0), description="1 leaves the image as it is, 0 takes the colour away")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(
        0.1, description="largest shift either way, as a share of the colour circle"
    )
    occlusion: Share = Field(
        0.8, description="a white square always hides a part; its side stays below this share of the shorter side"
    )
    erasing: Share = Field(
        0.0, description="probability that a rectangle is filled with a mean colour, the strong baselines' way"
    )


class TestTransform:
    """Resize by bicubic interpolation, nothing else.

    Args:
        image_size: (height, width) in pixels.
    """

    def __init__(self, image_size: tuple[int, int]) -> None:
        self.image_size = image_size

    def __call__(self, image: Image.Image) -> Tensor:
        """Transform an RGB image of any size to [3, H, W], uint8."""
        return _to_tensor(_resize(image, self.image_size))


class TrainTransform:
    """Resize, then pad and crop, flip, rotate, jitter colours and hide a square.

    Args:
        config: what to do and how much.
        image_size: (height, width) in pixels.

    Raises:
        ConfigError: ``occlusion`` is on but leaves no square of at least one pixel.
    """

    def __init__(self, config: AugmentConfig, image_size: tuple[int, int]) -> None:
        self.config = config
        self.image_size = image_size
        ranges = (config.brightness, config.contrast, config.saturation)
        jitters = [(change, *factors) for change, factors in zip(_FACTORS, ranges, strict=True) if factors != (1, 1)]
        self._jitters = jitters + ([(_shift_hue, -config.hue, config.hue)] if config.hue else [])
        self._side_limit = int(config.occlusion * min(image_size))
        if config.occlusion and self._side_limit < 2:
            raise ConfigError(
                f"augment.occlusion = {config.occlusion}: wanted a share that is at least 2 pixels of a "
                f"{image_size[0]} x {image_size[1]} image, found {self._side_limit}. Use 0 to switch it off."
            )

    def __call__(self, image: Image.Image, generator: Draws) -> Tensor:
        """Transform an RGB image of any size to [3, H, W], uint8; every draw comes from ``generator``."""
        config = self.config
        image = _resize(image, self.image_size)
        if config.pad_px:
            image = _shift(image, config.pad_px, generator)
        if config.flip and generator.uniform(0, 1) < config.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if config.rotation_deg:
            image = image.rotate(generator.uniform(-config.rotation_deg, config.rotation_deg))
        image = self._jitter(image, generator)
        if config.occlusion:
            _hide_square(image, self._side_limit, generator)
        if config.erasing:
            _erase(image, config.erasing, generator)
        return _to_tensor(image)

    def _jitter(self, image: Image.Image, generator: Draws) -> Image.Image:
        order = generator.permutation(len(self._jitters))
        amounts = [float(generator.uniform(low, high)) for _, low, high in self._jitters]
        for which in order:
            image = self._jitters[which][0](image, amounts[which])
        return image


def _resize(image: Image.Image, image_size: tuple[int, int]) -> Image.Image:
    return image.resize((image_size[1], image_size[0]), Image.Resampling.BICUBIC)


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())


def _shift(image: Image.Image, pad_px: int, generator: Draws) -> Image.Image:
    """A crop of image size from the padded image; PIL fills what lies outside with black."""
    top = int(generator.integers(0, 2 * pad_px + 1)) - pad_px
    left = int(generator.integers(0, 2 * pad_px + 1)) - pad_px
    return image.crop((left, top, left + image.width, top + image.height))


def _change_brightness(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def _change_contrast(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(factor)


def _change_saturation(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Color(image).enhance(factor)


def _shift_hue(image: Image.Image, share: float) -> Image.Image:
    steps = int(share * 255)  # as torchvision, whose circle of 256 values takes a step less for a full turn
    table = [(value + steps) % 256 for value in range(256)] + 2 * list(range(256))
    return image.convert("HSV").point(table).convert("RGB")


_FACTORS: tuple[Callable[[Image.Image, float], Image.Image], ...] = (
    _change_brightness,
    _change_contrast,
    _change_saturation,
)


_MEAN_COLOUR = (124, 116, 104)  # ImageNet's


def _hide_square(image: Image.Image, side_limit: int, generator: Draws) -> None:
    side = int(generator.integers(1, side_limit))
    left = int(generator.integers(0, image.width - side))
    top = int(generator.integers(0, image.height - side))
    image.paste((255, 255, 255), (left, top, left + side, top + side))


def _erase(image: Image.Image, probability: float, generator: Draws) -> None:
    """Random erasing: 2 to 40 % of the area, sides of up to 10 : 3; given up where a hundred draws do not fit.

    Source: Zhong et al., Random Erasing Data Augmentation, AAAI 2020; the colour is ImageNet's mean, as in Luo et al.,
    Bag of Tricks and a Strong Baseline for Deep Person Re-identification, CVPR Workshops 2019.
    """
    if generator.uniform(0.0, 1.0) >= probability:
        return
    for _ in range(100):
        area = generator.uniform(0.02, 0.4) * image.width * image.height
        ratio = generator.uniform(0.3, 1 / 0.3)
        height, width = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < height < image.height and 0 < width < image.width:
            top = int(generator.integers(0, image.height - height + 1))
            left = int(generator.integers(0, image.width - width + 1))
            image.paste(_MEAN_COLOUR, (left, top, left + width, top + height))
            return
