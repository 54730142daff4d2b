"""What correspondences are worth, one position at a time in plain Python: slow and obvious. Imports nothing of reid.

A truth is a triple of nested lists for one pair, one way: position[y][x] = (x, y), visible[y][x], known[y][x].
"""

from __future__ import annotations

import math

UNMATCHED, IGNORED = -1, -2


def truth_at(truth, x: float, y: float, tear: float):
    """((x, y), visible, known) between the centres of pixels, which lie at halves."""
    position, visible, known = truth
    height, width = len(visible), len(visible[0])
    sums, total, corners = [0.0, 0.0], 0.0, []
    for row in (math.floor(y - 0.5), math.floor(y - 0.5) + 1):
        for column in (math.floor(x - 0.5), math.floor(x - 0.5) + 1):
            weight = (1 - abs(y - 0.5 - row)) * (1 - abs(x - 0.5 - column))
            if weight <= 1e-3:
                continue
            pixel = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
            corners.append(pixel)
            total += weight
            for axis in (0, 1):
                sums[axis] += weight * position[pixel[0]][pixel[1]][axis]
    seen = [bool(visible[r][c]) for r, c in corners]
    sure = all(known[r][c] for r, c in corners) and len(set(seen)) == 1
    for axis in (0, 1):
        values = [position[r][c][axis] for r, c in corners]
        sure = sure and (not seen[0] or max(values) - min(values) <= tear)
    return (sums[0] / total, sums[1] / total), all(seen), sure


def distance(one, two) -> float:
    return math.hypot(one[0] - two[0], one[1] - two[1])


def median(values) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def auc(score, positive) -> float:
    """Share of (positive, negative) pairs in the right order; half for a tie."""
    won = [
        1.0 if high > low else 0.5 if high == low else 0.0
        for high, is_high in zip(score, positive, strict=True)
        if is_high
        for low, is_low in zip(score, positive, strict=True)
        if not is_low
    ]
    return sum(won) / len(won)


def labels(query, gallery, there, back, positive: float, negative: float):
    """Partner of each query keypoint; ``there`` and ``back`` hold ((x, y), visible, known) of each keypoint."""

    def far(i: int, j: int) -> float:
        if not (there[i][1] and there[i][2] and back[j][1] and back[j][2]):
            return math.inf
        return max(distance(there[i][0], gallery[j]), distance(query[i], back[j][0]))

    found = []
    for i in range(len(query)):
        partner = IGNORED
        nearest = [distance(there[i][0], point) for point in gallery]
        if there[i][2] and (not there[i][1] or not nearest or min(nearest) > negative):
            partner = UNMATCHED
        for j in range(len(gallery)):
            least = all(far(i, j) <= far(i, other) for other in range(len(gallery)))
            least = least and all(far(i, j) <= far(other, j) for other in range(len(query)))
            if least and far(i, j) < positive:
                partner = j
        found.append(partner)
    return found


def average_precision(confidence, correct, num_true: int) -> float:
    """Walk the thresholds from the highest confidence down."""
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(confidence), reverse=True):
        accepted = [hit for value, hit in zip(confidence, correct, strict=True) if value >= threshold]
        recall = sum(accepted) / num_true
        total += sum(accepted) / len(accepted) * (recall - recall_before)
        recall_before = recall
    return total


def nearest(query, gallery):
    """(query index, gallery index, cosine) of descriptors that are each other's nearest."""

    def cosine(one, two) -> float:
        dot = sum(a * b for a, b in zip(one, two, strict=True))
        return dot / math.sqrt(sum(a * a for a in one) * sum(b * b for b in two))

    found = []
    for i, own in enumerate(query):
        values = [cosine(own, other) for other in gallery]
        j = values.index(max(values))
        back = [cosine(other, gallery[j]) for other in query]
        if back.index(max(back)) == i:
            found.append((i, j, values[j]))
    return found
