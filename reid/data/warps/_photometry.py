"""What a camera of its own does to a view: colours, sharpness, compression and noise. No pixel moves."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

Pixels = NDArray[np.uint8]
"""RGB, [H, W, 3]."""


def retake(pixels_HW3: Pixels, strength: float, generator: np.random.Generator) -> Pixels:
    """Take the picture again with another camera.

    Args:
        pixels_HW3: RGB, uint8.
        strength: 0 changes nothing, 1 is as much as two surveillance cameras differ.
        generator: draws everything.

    Returns:
        RGB, uint8, of the same size; every pixel still shows the same place.
    """
    seldom = generator.random(4) < 0.5 * strength
    image = _colours(Image.fromarray(pixels_HW3), strength, generator)
    softness = generator.uniform(0, 1.2 * strength) * image.height / 128
    coarseness = 1 + generator.uniform(0, 1.5 * strength)
    quality = round(100 - generator.uniform(10, 70) * strength)
    noise = generator.uniform(0, 12 * strength)
    if seldom[0]:
        image = image.filter(ImageFilter.GaussianBlur(softness))
    if seldom[1]:
        image = _coarsened(image, coarseness)
    if seldom[2]:
        image = _grained(image, noise, generator)
    return _compressed(image, quality) if seldom[3] else np.asarray(image)


def _colours(image: Image.Image, strength: float, generator: np.random.Generator) -> Image.Image:
    """Saturation, and a tone curve for each channel: gain, contrast about mid grey and gamma."""
    bright, contrast, colour, gamma = np.exp(strength * np.array([0.3, 0.3, 0.4, 0.3]) * generator.uniform(-1, 1, 4))
    tint = np.exp(strength * generator.uniform(-0.12, 0.12, 3))
    value = np.linspace(0, 1, 256)
    tables = [np.clip(0.5 + contrast * (bright * gain * value - 0.5), 0, 1) ** gamma for gain in tint]
    table_3V = np.rint(255 * np.stack(tables)).astype(np.uint8)
    return Image.fromarray(table_3V[[0, 1, 2], np.asarray(ImageEnhance.Color(image).enhance(float(colour)))])


def _coarsened(image: Image.Image, factor: float) -> Image.Image:
    """What is left after a camera with fewer pixels."""
    small = max(2, round(image.width / factor)), max(2, round(image.height / factor))
    return image.resize(small, Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BICUBIC)


def _grained(image: Image.Image, sigma: float, generator: np.random.Generator) -> Image.Image:
    """With white noise."""
    grain = generator.standard_normal((image.height, image.width, 3), dtype=np.float32)
    grain *= np.float32(sigma)
    grain += np.asarray(image)
    return Image.fromarray(np.rint(np.clip(grain, 0, 255, out=grain)).astype(np.uint8))


def _compressed(image: Image.Image, quality: int) -> Pixels:
    """What is left after JPEG."""
    memory = io.BytesIO()
    image.save(memory, "JPEG", quality=quality)
    with Image.open(memory) as read:
        return np.asarray(read.convert("RGB"))
