"""Cloth patterns: functions that paint a square picture whose left and right edges meet."""

from __future__ import annotations

import numpy as np

from reid.datasets.synthped.people import Colour, Floats


def noise(rng: np.random.Generator, size: int, cells: int, spread: float) -> Floats:
    """Smooth noise around 1 with standard deviation of about ``spread``, periodic in both directions, [size, size]."""
    return (1 + spread * _smooth(rng, size, cells)).astype(np.float32)


def _smooth(rng: np.random.Generator, size: int, cells: int) -> Floats:
    grid = rng.standard_normal((cells, cells)).astype(np.float32)
    mix = _interpolation(size, cells)
    return mix @ grid @ mix.T


def _interpolation(size: int, cells: int) -> Floats:
    """Periodic linear interpolation from ``cells`` knots to ``size`` places as a matrix, [size, cells]."""
    place = np.arange(size) * cells / size
    left = np.floor(place).astype(int)
    share = place - left
    share = share * share * (3 - 2 * share)
    matrix = np.zeros((size, cells), np.float32)
    matrix[np.arange(size), left % cells] += 1 - share
    matrix[np.arange(size), (left + 1) % cells] += share
    return matrix


def slopes(rng: np.random.Generator, size: int, strength: float) -> Floats:
    """Slope of folded cloth around the body and down it, [size, size, 2], about -1..1."""
    relief = _smooth(rng, size, 5) + 0.6 * _smooth(rng, size, 11)
    return (strength * 3.0 * np.stack([np.roll(relief, -1, axis) - relief for axis in (1, 0)], axis=2)).astype(
        np.float32
    )


def ellipse(x: Floats, y: Floats, wide: float, high: float) -> Floats:
    """Where (x, y), broadcast together, lies inside an ellipse of these half axes; bool."""
    return np.asarray((x / wide) ** 2 + (y / high) ** 2 < 1)


def pattern(rng: np.random.Generator, name: str, first: Colour, second: Colour, size: int) -> Floats:
    """Paint a cloth.

    Args:
        rng: draws widths and places.
        name: one of :data:`reid.datasets.synthped.wardrobe.PATTERNS`.
        first: ground colour, 0..1.
        second: figure colour, 0..1.
        size: edge length in pixels.

    Returns:
        [size, size, 3] float32.
    """
    share = np.clip(_share(rng, name, size), 0, 1)[..., None].astype(np.float32)
    ground, figure = np.asarray(first, np.float32), np.asarray(second, np.float32)
    if name != "plain" and np.abs(ground - figure).max() < 0.2:
        figure = np.where(ground.mean() > 0.5, ground * 0.4, np.minimum(ground * 1.2 + 0.4, 0.9)).astype(np.float32)
    cloth = ground * (1 - share) + figure * share
    return np.asarray(cloth * noise(rng, size, 16, 0.03)[..., None], np.float32)


def _share(rng: np.random.Generator, name: str, size: int) -> Floats:
    """How much of the figure colour shows, [size, size], 0..1."""
    x = (np.arange(size)[None] + 0.5) / size + np.zeros((size, 1))
    y = (np.arange(size)[:, None] + 0.5) / size + np.zeros((1, size))
    if name == "stripes":
        bands, width = rng.integers(4, 13), rng.uniform(0.25, 0.6)
        return (y * bands % 1 < width).astype(np.float32)
    if name == "pinstripes":
        return (x * rng.integers(12, 22) % 1 < rng.uniform(0.2, 0.5)).astype(np.float32)
    if name == "checks":
        bands, width = rng.integers(6, 13), rng.uniform(0.3, 0.55)
        return 0.5 * ((x * 2 * bands % 1 < width) + (y * bands % 1 < width).astype(np.float32))
    if name == "dots":
        count = int(rng.integers(5, 10))
        shift = 0.5 * (np.floor(y * count) % 2)
        spot = ((x * 2 * count + shift) % 1 - 0.5) ** 2 + (y * count % 1 - 0.5) ** 2
        return np.asarray(spot < rng.uniform(0.05, 0.1), np.float32)
    if name == "camouflage":
        return (np.clip(_smooth(rng, size, 14) * 3, 0, 1) + (_smooth(rng, size, 9) > 0.4)) * 0.7
    if name == "blocks":
        edge, kind = rng.uniform(0.3, 0.65), rng.integers(3)
        if kind == 2:
            return (np.abs(x - 0.5) > 0.19).astype(np.float32)
        return (y < edge if kind else np.abs(y - edge) < rng.uniform(0.05, 0.12)).astype(np.float32)
    if name == "gradient":
        return y
    if name == "blotches":
        return (_smooth(rng, size, int(rng.integers(6, 12))) > rng.uniform(0.2, 0.9)).astype(np.float32)
    return np.zeros((size, size), np.float32)
