"""RoMa's coarse step and refiners as loops over cells, in float64.

``weights`` are a module's own tensors, names as in its state dict; positions are (x, y) in pixels.
"""

from __future__ import annotations

import math

import numpy as np

Weights = dict[str, np.ndarray]


def part(weights: Weights, prefix: str) -> Weights:
    """The tensors below ``prefix``, without it."""
    return {name.removeprefix(f"{prefix}."): w for name, w in weights.items() if name.startswith(f"{prefix}.")}


def count(weights: Weights, prefix: str) -> int:
    """How many numbered parts there are below ``prefix``."""
    return len({name.split(".")[0] for name in part(weights, prefix) if name.split(".")[0].isdigit()})


def linear(x: np.ndarray, w: Weights) -> np.ndarray:
    return x @ w["weight"].T + w.get("bias", 0.0)


def kernel(x: np.ndarray, y: np.ndarray, temperature: float) -> float:
    return math.exp((x @ y / math.sqrt(x @ x) / math.sqrt(y @ y) - 1) / temperature)


def embedding(position: np.ndarray, w: Weights) -> np.ndarray:
    """[2] to [D]."""
    return np.cos(8 * math.pi * (w["position.weight"] @ position + w["position.bias"]))


def posterior_mean(
    query: np.ndarray, support: np.ndarray, position: np.ndarray, w: Weights, temperature: float, noise: float
) -> np.ndarray:
    """Features [T, C] of one image and [S, C] at [S, 2] of another: [T, D], by the inverse."""
    size = len(support)
    matrix = np.array([[kernel(support[i], support[j], temperature) for j in range(size)] for i in range(size)])
    target = np.array([embedding(p, w) for p in position])
    alpha = np.linalg.inv(matrix + noise * np.eye(size)) @ target
    return np.array([sum(kernel(x, support[j], temperature) * alpha[j] for j in range(size)) for x in query])


def layer_norm(x: np.ndarray, w: Weights) -> np.ndarray:
    return np.array([(row - row.mean()) / np.sqrt(row.var() + 1e-5) * w["weight"] + w["bias"] for row in x])


def gelu(x: np.ndarray) -> np.ndarray:
    return np.array([[v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in row] for row in x])


def block(x: np.ndarray, w: Weights, heads: int) -> np.ndarray:
    """One pre-norm layer over tokens [S, D]."""
    size = x.shape[1] // heads
    q, k, v = np.split(linear(layer_norm(x, part(w, "norm1")), part(w, "qkv")), 3, axis=1)
    found = np.zeros_like(x)
    for s in range(len(x)):
        for h in range(heads):
            own = slice(h * size, (h + 1) * size)
            power = np.exp([q[s, own] @ k[t, own] / math.sqrt(size) for t in range(len(x))])
            found[s, own] = sum(power[t] / power.sum() * v[t, own] for t in range(len(x)))
    x = x + linear(found, part(w, "out_proj"))
    return x + linear(gelu(linear(layer_norm(x, part(w, "norm2")), part(w, "linear1"))), part(w, "linear2"))


def anchors(height: int, width: int, side: float) -> list[tuple[float, float]]:
    """Centres of an image's tiles, row by row."""
    rows, columns = round(height / side), round(width / side)
    return [((x + 0.5) * side, (y + 0.5) * side) for y in range(rows) for x in range(columns)]


def decode(logit: np.ndarray, rows: int, columns: int, side: float) -> np.ndarray:
    """Logits [A] of one cell: the position, [2], by the mode's row and column."""
    share = np.exp(logit - logit.max())
    row, column = divmod(int(logit.argmax()), columns)
    total, position = 0.0, np.zeros(2)
    for y, x in ((row, column), (row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
        if 0 <= y < rows and 0 <= x < columns:
            total += share[y * columns + x]
            position += share[y * columns + x] * np.array([(x + 0.5) * side, (y + 0.5) * side])
    return position / total


def coarse(own: np.ndarray, other: np.ndarray, grid: tuple[int, int], w: Weights, settings: dict) -> np.ndarray:
    """Features [S, C] of two images on a grid (rows, columns): the outputs of each cell, [S, A + 1]."""
    rows, columns = grid
    cells = [(y, x) for y in range(rows) for x in range(columns)]
    position = np.array([[(x + 0.5 - columns / 2) / 8, (y + 0.5 - rows / 2) / 8] for y, x in cells])
    mean = posterior_mean(own, other, position, part(w, "gp"), settings["temperature"], settings["noise"])
    token = np.concatenate([mean, own], axis=1)
    for n in range(count(w, "blocks")):
        token = block(token, part(w, f"blocks.{n}"), settings["heads"])
    return linear(token, part(w, "to_out"))


def read(image: np.ndarray, x: float, y: float, stride: int) -> np.ndarray:
    """[C, H, W] at a position in pixels, bilinearly; 0 outside."""
    column, row = x / stride - 0.5, y / stride - 0.5
    out = np.zeros(len(image))
    for j in (math.floor(row), math.floor(row) + 1):
        for i in (math.floor(column), math.floor(column) + 1):
            if 0 <= j < image.shape[1] and 0 <= i < image.shape[2]:
                out += (1 - abs(row - j)) * (1 - abs(column - i)) * image[:, j, i]
    return out


def refiner_inputs(
    own: np.ndarray, other: np.ndarray, warp: np.ndarray, w: Weights, stride: int, radius: int, unit: float
) -> np.ndarray:
    """Maps [C, H, W] of two images and where each cell lies, [H, W, 2]: what each cell sees, [channels, H, W]."""
    channels, height, width = own.shape
    seen = []
    for j in range(height):
        for i in range(width):
            x, y = warp[j, i]
            far = np.array([x - (i + 0.5) * stride, y - (j + 0.5) * stride]) / unit
            cell = [*own[:, j, i], *read(other, x, y, stride)]
            cell += list(w["displacement.weight"][:, :, 0, 0] @ far + w["displacement.bias"])
            reach = range(-radius, radius + 1) if radius else ()
            for v in reach:
                for u in reach:
                    there = read(other, x + u * stride, y + v * stride, stride)
                    cell.append(own[:, j, i] @ there / math.sqrt(channels))
            seen.append(cell)
    return np.array(seen).T.reshape(-1, height, width)


def depthwise(image: np.ndarray, w: Weights) -> np.ndarray:
    channels, height, width = image.shape
    padded = np.zeros((channels, height + 4, width + 4))
    padded[:, 2:-2, 2:-2] = image
    out = np.zeros_like(image)
    for c in range(channels):
        for j in range(height):
            for i in range(width):
                out[c, j, i] = (padded[c, j : j + 5, i : i + 5] * w["weight"][c, 0]).sum() + w["bias"][c]
    return out


def pointwise(image: np.ndarray, w: Weights) -> np.ndarray:
    return np.einsum("oc,cji->oji", w["weight"][:, :, 0, 0], image) + w["bias"][:, None, None]


def batch_norm(image: np.ndarray, w: Weights) -> np.ndarray:
    centred = image - w["running_mean"][:, None, None]
    return centred * (w["weight"] / np.sqrt(w["running_var"] + 1e-5))[:, None, None] + w["bias"][:, None, None]


def refined(seen: np.ndarray, w: Weights) -> np.ndarray:
    """What each cell sees to (dx, dy, certainty) before scaling, [3, H, W]."""
    for n in range(count(w, "blocks")):
        one = part(w, f"blocks.{n}")
        seen = pointwise(np.maximum(batch_norm(depthwise(seen, part(one, "0")), part(one, "1")), 0), part(one, "3"))
    return pointwise(seen, part(w, "out"))
