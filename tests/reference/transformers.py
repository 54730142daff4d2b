"""The Transformer baselines and TransMatcher's variants as loops over images and positions, in float64.

``weights`` are a matcher's own tensors, names as in its state dict; maps are [N, C, H, W]; every score is [Q, G].
"""

from __future__ import annotations

import numpy as np

Weights = dict[str, np.ndarray]


def part(weights: Weights, prefix: str) -> Weights:
    """The tensors below ``prefix``, without it."""
    return {name.removeprefix(f"{prefix}."): w for name, w in weights.items() if name.startswith(f"{prefix}.")}


def count(weights: Weights, prefix: str) -> int:
    """How many numbered parts there are below ``prefix``."""
    return len({name.split(".")[0] for name in part(weights, prefix) if name.split(".")[0].isdigit()})


def linear(x: np.ndarray, w: Weights) -> np.ndarray:
    return x @ w["weight"].T + w["bias"]


def conv3x3(image: np.ndarray, w: Weights) -> np.ndarray:
    """[C, H, W] -> tokens [H * W, D], row by row; a border of zeros."""
    channels, height, width = image.shape
    padded = np.zeros((channels, height + 2, width + 2))
    padded[:, 1:-1, 1:-1] = image
    tokens = []
    for y in range(height):
        for x in range(width):
            window = padded[:, y : y + 3, x : x + 3]
            tokens.append([float((window * kernel).sum()) for kernel in w["weight"]] + w["bias"])
    return np.array(tokens)


def layer_norm(x: np.ndarray, w: Weights) -> np.ndarray:
    rows = [(row - row.mean()) / np.sqrt(row.var() + 1e-5) * w["weight"] + w["bias"] for row in x]
    return np.array(rows)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def attention(x: np.ndarray, memory: np.ndarray, w: Weights, heads: int) -> np.ndarray:
    """[T, D] reads [S, D]: one query position at a time."""
    dim = x.shape[1]
    q, k, v = (
        source @ w["in_proj_weight"][i * dim : (i + 1) * dim].T + w["in_proj_bias"][i * dim : (i + 1) * dim]
        for i, source in enumerate((x, memory, memory))
    )
    out = np.zeros_like(x)
    size = dim // heads
    for t in range(len(x)):
        for h in range(heads):
            own = slice(h * size, (h + 1) * size)
            share = softmax(np.array([q[t, own] @ k[s, own] for s in range(len(memory))]) / np.sqrt(size))
            out[t, own] = sum(share[s] * v[s, own] for s in range(len(memory)))
    return linear(out, part(w, "out_proj"))


def perceptron(x: np.ndarray, w: Weights) -> np.ndarray:
    return linear(np.maximum(linear(x, part(w, "linear1")), 0), part(w, "linear2"))


def residual(x: np.ndarray, block, norm: Weights, pre: bool) -> np.ndarray:
    return x + block(layer_norm(x, norm)) if pre else layer_norm(x + block(x), norm)


def encoder_layer(x: np.ndarray, w: Weights, heads: int, pre: bool) -> np.ndarray:
    x = residual(x, lambda y: attention(y, y, part(w, "self_attn"), heads), part(w, "norm1"), pre)
    return residual(x, lambda y: perceptron(y, w), part(w, "norm2"), pre)


def encode(x: np.ndarray, weights: Weights, heads: int, pre: bool) -> np.ndarray:
    """Layers ``encoder.0``, ``encoder.1``, ... and, where the norms come first, a last norm after them."""
    layers = count(weights, "encoder") - pre
    for n in range(layers):
        x = encoder_layer(x, part(weights, f"encoder.{n}"), heads, pre)
    return layer_norm(x, part(weights, f"encoder.{layers}")) if pre else x


def decoder_layer(x: np.ndarray, memory: np.ndarray, w: Weights, heads: int, pre: bool) -> np.ndarray:
    x = residual(x, lambda y: attention(y, y, part(w, "self_attn"), heads), part(w, "norm1"), pre)
    x = residual(x, lambda y: attention(y, memory, part(w, "cross_attn"), heads), part(w, "norm2"), pre)
    return residual(x, lambda y: perceptron(y, w), part(w, "norm3"), pre)


def decode(x: np.ndarray, memory: np.ndarray, weights: Weights, heads: int, pre: bool) -> np.ndarray:
    w = part(weights, "decoder")
    for name in ["first", *(f"others.{n}" for n in range(count(w, "others")))]:
        x = decoder_layer(x, memory, part(w, name), heads, pre)
    return layer_norm(x, part(w, "norm")) if pre else x


def neck(maps: np.ndarray, weights: Weights) -> list[np.ndarray]:
    """Tokens of each image."""
    position = weights.get("neck.position", 0)
    return [conv3x3(image, part(weights, "neck.conv")) + position for image in maps]


def normed_scores(score: np.ndarray, weights: Weights, training: bool) -> np.ndarray:
    w = part(weights, "score_norm")
    mean, var = (score.mean(), score.var()) if training else (w["bn.running_mean"], w["bn.running_var"])
    return (score - mean) / np.sqrt(var + 1e-5) * np.exp(w["log_scale"]) + w["shift"]


def dot_products(query: list[np.ndarray], gallery: list[np.ndarray]) -> np.ndarray:
    return np.array([[float(q @ g) for g in gallery] for q in query])


def vit_score(query, gallery, weights: Weights, *, heads=1, pre=True, pooling="average", training=False) -> np.ndarray:
    def vectors(maps):
        encoded = [encode(x, weights, heads, pre) for x in neck(maps, weights)]
        return [x.mean(0) if pooling == "average" else x.max(0) for x in encoded]

    return normed_scores(dot_products(vectors(query), vectors(gallery)), weights, training)


def transformer_score(query, gallery, weights: Weights, *, heads=1, pre=False, training=False) -> np.ndarray:
    def vectors(maps):
        memories = [encode(x, weights, heads, pre) for x in neck(maps, weights)]
        return [decode(weights["queries"], memory, weights, heads, pre).flatten() for memory in memories]

    return normed_scores(dot_products(vectors(query), vectors(gallery)), weights, training)


def pair_logit(tokens: np.ndarray, weights: Weights) -> float:
    return float(linear(tokens.mean(0), part(weights, "head.linear"))[0])


def cat_score(query, gallery, weights: Weights, *, heads=1, pre=False) -> np.ndarray:
    first, second = weights["image_type"]

    def logit(q, g):
        return pair_logit(encode(np.concatenate((q + first, g + second)), weights, heads, pre), weights)

    galleries = neck(gallery, weights)
    return np.array([[logit(q, g) for g in galleries] for q in neck(query, weights)])


def cross_score(query, gallery, weights: Weights, *, heads=1, pre=False, symmetric=False) -> np.ndarray:
    def one_way(tokens, other):
        memory = encode(other, weights, heads, pre)
        return pair_logit(decode(tokens, memory, weights, heads, pre), weights)

    galleries = neck(gallery, weights)
    score = np.array([[one_way(q, g) for g in galleries] for q in neck(query, weights)])
    if symmetric:
        score = (score + np.array([[one_way(g, q) for g in galleries] for q in neck(query, weights)])) / 2
    return score


def pooled(values: np.ndarray, pool: str, dim: int) -> float:
    """One number of a position's similarities with all positions of the other image."""
    if pool == "max":
        return float(values.max())
    if pool == "mean":
        return float(values.sum() / len(values))
    return float(softmax(values / np.sqrt(dim)) @ values)


def similarity_rows(query: np.ndarray, gallery: np.ndarray, factor: np.ndarray | None, pool: str) -> np.ndarray:
    """Keys of one pair, [S, D] each, to [2, S]: over gallery positions, over query positions."""
    num, dim = query.shape
    similarity = np.array([[float(gallery[s] @ query[t]) for t in range(num)] for s in range(num)])
    if factor is not None:
        similarity = similarity * factor
    over_gallery = [pooled(similarity[:, t], pool, dim) for t in range(num)]
    over_query = [pooled(similarity[s], pool, dim) for s in range(num)]
    return np.array([over_gallery, over_query])


def batch_norm(x: np.ndarray, w: Weights, training: bool) -> np.ndarray:
    """[X, C], over the first dimension."""
    mean, var = (x.mean(0), x.var(0)) if training else (w["running_mean"], w["running_var"])
    return (x - mean) / np.sqrt(var + 1e-5) * w["weight"] + w["bias"]


def matching_layer(query: np.ndarray, gallery: np.ndarray, w: Weights, pool: str, training: bool) -> np.ndarray:
    """Keys of one level, [Q, S, D] and [G, S, D], to logits of all pairs, [Q * G, 1]."""
    factor = 1 / (1 + np.exp(-w["score_embed"][0, 0])) if "score_embed" in w else None
    rows = np.array([similarity_rows(q, g, factor, pool) for q in query for g in gallery])
    shape = rows.shape
    rows = batch_norm(rows.reshape(-1, 1), part(w, "bn1"), training).reshape(-1, shape[2])
    hidden = np.maximum(batch_norm(linear(rows, part(w, "fc2")), part(w, "bn2"), training), 0)
    logits = linear(hidden, part(w, "fc3")).reshape(-1, 2).sum(1, keepdims=True)
    return batch_norm(logits, part(w, "bn3"), training)


def transmatcher_score(query, gallery, weights: Weights, *, pool="max", training=False) -> np.ndarray:
    """From maps. Encoder layers, score embeddings and positions count where ``weights`` has them."""
    num_layers = count(weights, "decoder.layers")
    depth = count(weights, "encoder.layers")

    def keys(maps):
        every = []
        for image in maps:
            x = conv3x3(image, part(weights, "neck_conv")) + weights.get("position", 0)
            levels = [x] if depth else [x] * num_layers
            for n in range(depth):
                levels.append(encoder_layer(levels[-1], part(weights, f"encoder.layers.{n}"), 1, False))
            every.append([linear(x, part(weights, f"decoder.layers.{n}.fc1")) for n, x in enumerate(levels)])
        return np.array(every)

    query, gallery = keys(query), keys(gallery)
    total = sum(
        matching_layer(query[:, n], gallery[:, n], part(weights, f"decoder.layers.{n}"), pool, training)
        for n in range(num_layers)
    )
    return batch_norm(total, part(weights, "decoder.norm"), training).reshape(len(query), len(gallery))
