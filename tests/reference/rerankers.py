"""RRT and ETR for one pair of images, written as loops over tokens and heads, in float64, from weights by name."""

from __future__ import annotations

import numpy as np

Weights = dict[str, np.ndarray]


def linear(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    """Of one vector; 1x1 convolutions have the same weights with two more dimensions."""
    matrix = weights[f"{name}.weight"].astype(float)
    return matrix.reshape(len(matrix), -1) @ x + weights[f"{name}.bias"]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).sum())


def layer_norm(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def layer(
    target: list[np.ndarray], source: list[np.ndarray], allowed: list[bool], weights: Weights, name: str, heads: int
) -> list[np.ndarray]:
    """One post-norm layer: each target token looks at the source tokens that are allowed."""
    dim = len(target[0])
    size = dim // heads
    out = []
    for x in target:
        query = linear(x, weights, f"{name}.in_proj")[:dim]
        found = np.zeros(dim)
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            shares, values = [], []
            for y, may in zip(source, allowed, strict=True):
                if may:
                    key, value = np.split(linear(y, weights, f"{name}.in_proj")[dim:], 2)
                    shares.append(np.exp(query[own] @ key[own] / np.sqrt(size)))
                    values.append(value[own])
            for share, value in zip(shares, values, strict=True):
                found[own] += share / sum(shares) * value
        z = layer_norm(x + linear(found, weights, f"{name}.out_proj"), weights, f"{name}.norm1")
        hidden = np.maximum(linear(z, weights, f"{name}.linear1"), 0)
        out.append(layer_norm(z + linear(hidden, weights, f"{name}.linear2"), weights, f"{name}.norm2"))
    return out


def gem(map_chw: np.ndarray, power: float) -> np.ndarray:
    out = []
    for channel in map_chw:
        values = [max(float(v), 1e-6) ** power for v in channel.ravel()]
        out.append((sum(values) / len(values)) ** (1 / power))
    return np.array(out)


def attention(cell: np.ndarray, weights: Weights, idx: int) -> float:
    hidden = np.maximum(linear(cell, weights, f"tokens.attention.{idx}.hidden"), 0)
    return float(np.log1p(np.exp(linear(hidden, weights, f"tokens.attention.{idx}.score")[0])))


def tokens(maps: list[np.ndarray], weights: Weights, num_locals: int = 0, deepest: int = 0) -> list[np.ndarray]:
    """Tokens of one image, the global one first if the weights have one, from maps [C, H, W] in the order of strides.

    With ``num_locals`` these are the best cells by attention, best first.
    """
    found = []
    row = 0
    for idx, map_chw in enumerate(maps):
        for y in range(map_chw.shape[1]):
            for x in range(map_chw.shape[2]):
                cell = map_chw[:, y, x]
                token = unit(linear(cell, weights, f"tokens.reduce.{idx}"))
                if "tokens.scale_embedding.weight" in weights:
                    token = token + weights["tokens.scale_embedding.weight"][idx]
                if "tokens.row_embedding.weight" in weights:
                    token = token + weights["tokens.row_embedding.weight"][row]
                found.append((attention(cell, weights, idx) if num_locals else 0.0, token))
            row += 1
    if num_locals:
        found = sorted(found, key=lambda entry: -entry[0])[:num_locals]
    local = [token for _, token in found]
    if "tokens.project.weight" not in weights:
        return local
    pooled = gem(maps[deepest], float(weights["tokens.pooling.power"]))
    return [unit(linear(pooled, weights, "tokens.project")), *local]


def attended(maps: list[np.ndarray], weights: Weights) -> tuple[np.ndarray, float]:
    """Attention-weighted mean of the reconstructed cells, maps side by side, and the reconstruction's squared error."""
    total = 0.0
    sums, errors = [], []
    for idx, map_chw in enumerate(maps):
        here = np.zeros(len(map_chw))
        squares = []
        for y in range(map_chw.shape[1]):
            for x in range(map_chw.shape[2]):
                cell = map_chw[:, y, x]
                again = linear(linear(cell, weights, f"tokens.reduce.{idx}"), weights, f"tokens.attention.{idx}.expand")
                here += attention(cell, weights, idx) * again
                total += attention(cell, weights, idx)
                squares += list((again - cell) ** 2)
        sums.append(here)
        errors.append(sum(squares) / len(squares))
    return np.concatenate(sums) / total, sum(errors) / len(errors)


def rrt_logit(
    query: list[np.ndarray], gallery: list[np.ndarray], weights: Weights, heads: int, real: list[bool] | None = None
) -> float:
    """Logit of two images' tokens, all renewed in all layers. ``real``: which tokens of either image are."""
    segment = weights["segment.weight"].astype(float)  # local query, local gallery, CLS, SEP, global query and gallery
    sequence = [segment[2], query[0] + segment[4], *[token + segment[0] for token in query[1:]]]
    sequence += [segment[3], gallery[0] + segment[5], *[token + segment[1] for token in gallery[1:]]]
    allowed = 2 * [True, *(real or len(query) * [True])]
    depth = len({name.split(".")[1] for name in weights if name.startswith("layers.")})
    for number in range(depth):
        sequence = layer(sequence, sequence, allowed, weights, f"layers.{number}", heads)
    return float(linear(sequence[0], weights, "classifier")[0])


def etr_logit(
    query: list[np.ndarray],
    gallery: list[np.ndarray],
    weights: Weights,
    kinds: list[str],
    heads: int,
    real: tuple[list[bool], list[bool]] | None = None,
) -> float:
    """Logit of two images' tokens by the paper. ``real``: which tokens of the query and of the gallery image are."""
    a, b = (segmented(side, weights) for side in (query, gallery))
    real_a, real_b = real or (len(a) * [True], len(b) * [True])
    for number, kind in enumerate(kinds):
        name = f"layers.{number}"
        if kind == "self":
            a, b = layer(a, a, real_a, weights, name, heads), layer(b, b, real_b, weights, name, heads)
        else:
            a, b = layer(a, b, real_b, weights, name, heads), layer(b, a, real_a, weights, name, heads)
    means = [
        sum(x for x, may in zip(side, mask, strict=True) if may) / sum(mask)
        for side, mask in ((a, real_a), (b, real_b))
    ]
    return float(linear(np.concatenate(means), weights, "classifier")[0])


def etr_released_logit(
    query: list[np.ndarray],
    gallery: list[np.ndarray],
    weights: Weights,
    heads: int,
    real: tuple[list[bool], list[bool]],
) -> float:
    """Logit by the released code: every layer reads the initial tokens and the last result is used.

    ``weights`` has that last layer as layer 0. The query's mask is laid on the gallery image's tokens where the query
    looks at them, and the other way round; means include padding.
    """
    a, b = (segmented(side, weights) for side in (query, gallery))
    last_a = layer(a, b, real[0], weights, "layers.0", heads)
    last_b = layer(b, a, real[1], weights, "layers.0", heads)
    means = [sum(side) / len(side) for side in (last_a, last_b)]
    return float(linear(np.concatenate(means), weights, "classifier")[0])


def segmented(side: list[np.ndarray], weights: Weights) -> list[np.ndarray]:
    if "segment.weight" not in weights:
        return side
    segment = weights["segment.weight"].astype(float)
    return [side[0] + segment[0], *[token + segment[1] for token in side[1:]]]
