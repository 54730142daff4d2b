"""Pair scores written as loops over pairs and positions, in float64."""

from __future__ import annotations

import numpy as np


def maxima(query: np.ndarray, gallery: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """[Q, S, D] and [G, S, D] -> best over gallery positions and best over query positions, [Q, G, S] each."""
    num_query, num_positions = query.shape[:2]
    num_gallery = gallery.shape[0]
    over_gallery = np.full((num_query, num_gallery, num_positions), -np.inf)
    over_query = np.full((num_query, num_gallery, num_positions), -np.inf)
    for q in range(num_query):
        for g in range(num_gallery):
            for s in range(num_positions):
                for t in range(num_positions):
                    value = float(np.dot(gallery[g, s].astype(float), query[q, t].astype(float)))
                    if weight is not None:
                        value *= float(weight[s, t])
                    over_gallery[q, g, t] = max(over_gallery[q, g, t], value)
                    over_query[q, g, s] = max(over_query[q, g, s], value)
    return over_gallery, over_query


def batch_norm(x: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Evaluation-mode batch norm over the last axis (or a single channel)."""
    scale = weights[f"{name}.weight"] / np.sqrt(weights[f"{name}.running_var"] + 1e-5)
    return (x - weights[f"{name}.running_mean"]) * scale + weights[f"{name}.bias"]


def transmatcher_score(query: np.ndarray, gallery: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Score of keys [Q, L, S, D] and [G, L, S, D] by the decoder's weights (released names), one pair at a time."""
    score = np.zeros((len(query), len(gallery)))
    for q in range(len(query)):
        for g in range(len(gallery)):
            for layer in range(query.shape[1]):
                prefix = f"layers.{layer}."
                own = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
                factor = 1 / (1 + np.exp(-own["score_embed"][0, 0]))
                rows = maxima(query[q : q + 1, layer], gallery[g : g + 1, layer], factor)
                total = 0.0
                for row in rows:
                    hidden = batch_norm(row[0, 0], own, "bn1") @ own["fc2.weight"].T + own["fc2.bias"]
                    hidden = np.maximum(batch_norm(hidden, own, "bn2"), 0)
                    total += float(hidden @ own["fc3.weight"][0] + own["fc3.bias"][0])
                score[q, g] += float(batch_norm(np.array([total]), own, "bn3")[0])
            score[q, g] = float(batch_norm(score[q, g : g + 1], weights, "norm")[0])
    return score


def qaconv_score(query: np.ndarray, gallery: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """Score of unit features [Q, S, D] and [G, S, D] by QAConv's weights (released names), one pair at a time."""
    score = np.zeros((len(query), len(gallery)))
    for q in range(len(query)):
        for g in range(len(gallery)):
            total = 0.0
            for row in maxima(query[q : q + 1], gallery[g : g + 1]):
                normed = batch_norm(row[0, 0], weights, "bn")
                total += float(normed @ weights["fc.weight"][0] + weights["fc.bias"][0])
            score[q, g] = float(batch_norm(np.array([total]), weights, "logit_bn")[0])
    return score
