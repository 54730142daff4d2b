"""Losses on a batch scored against itself, written as loops over rows and entries, in float64."""

from __future__ import annotations

import math

import numpy as np


def pairwise(score: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Mean over rows of the summed binary cross-entropy, and the share of solved rows."""
    losses, solved = [], []
    for i in range(len(label)):
        total = 0.0
        for j in range(len(label)):
            x = float(score[i, j])
            total += math.log1p(math.exp(-abs(x))) + max(x, 0.0) - (x if label[i] == label[j] else 0.0)
        losses.append(total)
        positive, negative = _hardest(score, label, i)
        solved.append(positive > negative)
    return float(np.mean(losses)), float(np.mean(solved))


def triplet(score: np.ndarray, label: np.ndarray, margin: float) -> tuple[float, float]:
    """Mean over rows of the batch-hard hinge, and the share of solved rows."""
    losses, solved = [], []
    for i in range(len(label)):
        positive, negative = _hardest(score, label, i)
        losses.append(max(0.0, negative - positive + margin))
        solved.append(positive >= negative)
    return float(np.mean(losses)), float(np.mean(solved))


def identity_triplet(
    pooled: np.ndarray, logit: np.ndarray, label: np.ndarray, margin: float | None, smoothing: float
) -> float:
    """Smoothed softmax cross-entropy plus Euclidean batch-hard triplet (margin None: soft), mean over rows."""
    losses = []
    for i in range(len(label)):
        largest = max(float(x) for x in logit[i])
        log_sum = largest + math.log(sum(math.exp(float(x) - largest) for x in logit[i]))
        log_share = [float(x) - log_sum for x in logit[i]]
        identity = -(1 - smoothing) * log_share[label[i]] - smoothing * sum(log_share) / len(log_share)
        distance = np.array([[-math.dist(a, b) for b in pooled] for a in pooled])
        positive, negative = _hardest(distance, label, i)
        gap = negative - positive
        losses.append(identity + (math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin)))
    return float(np.mean(losses))


def _hardest(score: np.ndarray, label: np.ndarray, i: int) -> tuple[float, float]:
    others = [j for j in range(len(label)) if j != i]
    positive = min((float(score[i, j]) for j in others if label[j] == label[i]), default=math.inf)
    negative = max((float(score[i, j]) for j in others if label[j] != label[i]), default=-math.inf)
    return positive, negative
