"""SuperGlue for one pair of images as loops over keypoints, heads and cells, in float64, from weights by name.

The transport is Sinkhorn's plain scaling of rows and columns, without logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Weights = dict[str, np.ndarray]


@dataclass
class Image:
    """Keypoints of one image: place in pixels, saliency 0..1, unit descriptor, and what layers make of it."""

    points: list[tuple[float, float]]
    confidence: list[float]
    descriptors: list[np.ndarray]
    tokens: list[np.ndarray]


def linear(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    matrix = weights[f"{name}.weight"].astype(float)
    return matrix.reshape(len(matrix), -1) @ x + weights[f"{name}.bias"]


def norm(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    """Batch norm in eval mode where there are running statistics, else layer norm."""
    if f"{name}.running_mean" in weights:
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    else:
        mean, variance = x.mean(), x.var()
    return (x - mean) / np.sqrt(variance + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def perceptron(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    idx = 0
    while f"{name}.hidden.{idx}.weight" in weights:
        x = np.maximum(norm(linear(x, weights, f"{name}.hidden.{idx}"), weights, f"{name}.norms.{idx}"), 0)
        idx += 1
    return linear(x, weights, f"{name}.last")


def layer(
    targets: list[np.ndarray], sources: list[np.ndarray], weights: Weights, name: str, heads: int
) -> list[np.ndarray]:
    dim = len(targets[0])
    size = dim // heads
    out = []
    for x in targets:
        query = linear(x, weights, f"{name}.query")
        message = np.zeros(dim)
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            shares, values = [], []
            for y in sources:
                key, value = np.split(linear(y, weights, f"{name}.key_value"), 2)
                shares.append(np.exp(query[own] @ key[own] / np.sqrt(size)))
                values.append(value[own])
            for share, value in zip(shares, values, strict=True):
                message[own] += share / sum(shares) * value
        told = np.concatenate([x, linear(message, weights, f"{name}.merge")])
        out.append(x + perceptron(told, weights, f"{name}.mlp"))
    return out


def saliency(map_chw: np.ndarray) -> np.ndarray:
    length = np.sqrt((map_chw**2).sum(0))
    return (length - length.mean()) / (length.std() + 1e-6 * length.mean())


def keypoints(map_chw: np.ndarray, stride: int, num: int | None) -> list[tuple[float, float, float]]:
    """(x, y, confidence); ``num`` None: every cell, row by row; else peaks first, then others, by saliency."""
    salient = saliency(map_chw)
    height, width = salient.shape
    found = []
    for y in range(height):
        for x in range(width):
            window = [
                (salient[v, u], u - x, v - y)
                for v in range(max(0, y - 1), min(height, y + 2))
                for u in range(max(0, x - 1), min(width, x + 2))
            ]
            peak = num is not None and all(salient[y, x] >= value for value, _, _ in window)
            total = sum(np.exp(value) for value, _, _ in window)
            dx, dy = (sum(np.exp(w[0]) * w[i] for w in window) / total if peak else 0.0 for i in (1, 2))
            place = ((x + 0.5 + dx) * stride, (y + 0.5 + dy) * stride)
            found.append((not peak, -salient[y, x], *place, 1 / (1 + np.exp(-salient[y, x]))))
    if num is not None:
        found = sorted(found, key=lambda one: one[:2])[:num]
    return [one[2:] for one in found]


def read_at(cells: np.ndarray, x: float, y: float, stride: int) -> np.ndarray:
    """A map [D, H, W] between the centres of its cells, bilinearly; beyond the outer ones it stays as it is."""
    _, height, width = cells.shape
    u = min(max(x / stride - 0.5, 0.0), width - 1.0)
    v = min(max(y / stride - 0.5, 0.0), height - 1.0)
    left, top = int(u), int(v)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    upper = (1 - u + left) * cells[:, top, left] + (u - left) * cells[:, top, right]
    lower = (1 - u + left) * cells[:, bottom, left] + (u - left) * cells[:, bottom, right]
    return (1 - v + top) * upper + (v - top) * lower


def encode(
    map_chw: np.ndarray, weights: Weights, stride: int, image_size: tuple[int, int], num: int | None = None
) -> Image:
    channels, height, width = map_chw.shape
    projected = np.array([linear(cell, weights, "keypoints.project") for cell in map_chw.reshape(channels, -1).T])
    cells = projected.T.reshape(-1, height, width)
    image = Image([], [], [], [])
    for x, y, confidence in keypoints(map_chw, stride, num):
        raw = read_at(cells, x, y, stride)
        descriptor = raw / np.sqrt((raw**2).sum())
        longer = 0.7 * max(image_size)
        place = np.array([(x - image_size[1] / 2) / longer, (y - image_size[0] / 2) / longer, confidence])
        token = descriptor
        if "keypoints.position.last.weight" in weights:
            token = descriptor + perceptron(place, weights, "keypoints.position")
        image.points.append((x, y))
        image.confidence.append(confidence)
        image.descriptors.append(descriptor)
        image.tokens.append(token)
    return image


def matching_scores(a: Image, b: Image, weights: Weights, heads: int, kinds: list[str]) -> np.ndarray:
    """Of each keypoint of A with each of B, after the layers ``kinds``, each ``self`` or ``cross``."""
    names = sorted({name.split(".mlp.")[0] for name in weights if name.startswith("gnn.") and ".mlp." in name})
    tokens = (a.tokens, b.tokens)
    for kind, name in zip(kinds, names, strict=True):
        sources = tokens if kind == "self" else tokens[::-1]
        tokens = tuple(layer(own, source, weights, name, heads) for own, source in zip(tokens, sources, strict=True))
    final = [[linear(x, weights, "final") for x in side] for side in tokens]
    return np.array([[x @ y / np.sqrt(len(x)) for y in final[1]] for x in final[0]])


def sinkhorn(scores: np.ndarray, dustbin: float, iterations: int) -> np.ndarray:
    """Rows first, then columns, each ``iterations`` times; with dustbins, [K + 1, L + 1]."""
    rows, columns = scores.shape
    kernel = np.full((rows + 1, columns + 1), np.exp(float(dustbin)))
    kernel[:rows, :columns] = np.exp(scores)
    row_mass = np.append(np.ones(rows), columns)
    column_mass = np.append(np.ones(columns), rows)
    u, v = np.ones(rows + 1), np.ones(columns + 1)
    for _ in range(iterations):
        u = row_mass / (kernel @ v)
        v = column_mass / (kernel.T @ u)
    return u[:, None] * kernel * v


def assignment(scores: np.ndarray, dustbin: float, iterations: int) -> np.ndarray:
    """Geometric mean of rows first and columns first."""
    return np.sqrt(sinkhorn(scores, dustbin, iterations) * sinkhorn(scores.T, dustbin, iterations).T)


def pair_scores(
    mass: np.ndarray, scores: np.ndarray, a: Image, b: Image, dustbin: float, threshold: float
) -> dict[str, float]:
    """Of one pair with keypoints on both sides."""
    rows, columns = scores.shape
    total, cosine, value, count, everything = 0.0, 0.0, 0.0, 0, 0.0
    for i in range(rows + 1):
        for j in range(columns + 1):
            everything += mass[i, j]
            if i == rows or j == columns:
                value += mass[i, j] * dustbin
                continue
            total += mass[i, j]
            cosine += mass[i, j] * (a.descriptors[i] @ b.descriptors[j])
            value += mass[i, j] * scores[i, j]
            best_in_row = mass[i, j] == max(mass[i, :columns])
            best_in_column = mass[i, j] == max(mass[:rows, j])
            count += int(best_in_row and best_in_column and mass[i, j] > threshold)
    alone = min(sum(mass[:rows, columns]), sum(mass[rows, :columns]))
    return {
        "mass": total / (total + alone),
        "sim": cosine / total,
        "ot": value / everything,
        "count": count,
        "odds": np.log(total / alone),
    }
