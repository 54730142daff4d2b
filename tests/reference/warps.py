"""Motions, sampling and surface matches as loops over points and pixels, in float64."""

from __future__ import annotations

import math

import numpy as np


def homography(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Each (x, y) times a 3 x 3 matrix; NaN where the third component is not above 0."""
    out = []
    for x, y in points:
        column = [sum(matrix[row][k] * (x, y, 1.0)[k] for k in range(3)) for row in range(3)]
        out.append([column[0] / column[2], column[1] / column[2]] if column[2] > 0 else [math.nan, math.nan])
    return np.array(out)


def spline(control: np.ndarray, shift: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Thin-plate spline in pixels, its kernel r^2 log r, solved by least squares; the shift of each point."""

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        r = math.dist(a, b)
        return r * r * math.log(r) if r else 0.0

    num = len(control)
    rows = [[kernel(a, b) for b in control] + [1.0, *a] for a in control]
    rows += [[1.0] * num + [0.0] * 3] + [[p[i] for p in control] + [0.0] * 3 for i in range(2)]
    out = []
    for i in range(2):
        weights = np.linalg.lstsq(np.array(rows), np.append(shift[:, i], [0.0, 0.0, 0.0]), rcond=None)[0]
        bent = [sum(weights[k] * kernel(p, control[k]) for k in range(num)) for p in points]
        flat = [weights[num] + weights[num + 1] * x + weights[num + 2] * y for x, y in points]
        out.append([a + b for a, b in zip(bent, flat, strict=True)])
    return np.array(out).T


def joints(heights, join_px, pivots, angles, scales, shifts, points) -> np.ndarray:
    """Where each point goes: a blend of three similarities, by the height alone."""

    def share(y: float, height: float) -> float:
        return 1 / (1 + math.exp(-4 / join_px * (y - height)))

    out = []
    for x, y in points:
        neck, hip = (share(y, height) for height in heights)
        blend = (1 - neck, neck - hip, hip)
        moved = np.zeros(2)
        for k in range(3):
            dx, dy = x - pivots[k][0], y - pivots[k][1]
            cos, sin = scales[k] * math.cos(angles[k]), scales[k] * math.sin(angles[k])
            moved += blend[k] * (pivots[k] + shifts[k] + np.array([cos * dx - sin * dy, sin * dx + cos * dy]))
        out.append(moved)
    return np.array(out)


def bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """[H, W, C] between the four pixels round (x, y), whose centres lie at halves; the border continues."""
    height, width = image.shape[:2]
    left, top = math.floor(x - 0.5), math.floor(y - 0.5)
    out = np.zeros(image.shape[2])
    for row in (top, top + 1):
        for column in (left, left + 1):
            weight = (1 - abs(x - 0.5 - column)) * (1 - abs(y - 0.5 - row))
            out += weight * image[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
    return out
