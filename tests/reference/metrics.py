"""Retrieval metrics by loops that follow the definitions, one gallery image at a time. Imports nothing of reid."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Image:
    pid: int
    camid: int
    role: str = "person"


def ranked_hits(
    scores: Sequence[float], query: Image, gallery: Sequence[Image], camera_rule: bool = True
) -> list[bool]:
    """Whether each kept gallery image, best first, shows the query's person; equal scores keep gallery order."""
    kept = []
    for place, (score, image) in enumerate(zip(scores, gallery, strict=True)):
        same_person = image.role == "person" and query.role == "person" and image.pid == query.pid
        if image.role == "junk":
            continue
        if camera_rule and same_person and image.camid == query.camid:
            continue
        kept.append((-score, place, same_person))
    return [same_person for _, _, same_person in sorted(kept)]


def match_ranks(hits: Sequence[bool]) -> list[int]:
    return [rank for rank, hit in enumerate(hits, start=1) if hit]


def average_precision(hits: Sequence[bool]) -> float:
    """Sum over the list of precision times the step in recall."""
    total = sum(hits)
    area, found = 0.0, 0
    for rank, hit in enumerate(hits, start=1):
        if hit:
            found += 1
            area += (found / rank) * (1 / total)
    return area


def average_precision_trapezoid(hits: Sequence[bool]) -> float:
    """Walk the precision-recall curve from (recall 0, precision 1) and add up trapezoids."""
    total = sum(hits)
    area, found = 0.0, 0
    last_recall, last_precision = 0.0, 1.0
    for rank, hit in enumerate(hits, start=1):
        found += hit
        recall, precision = found / total, found / rank
        area += (recall - last_recall) * (last_precision + precision) / 2
        last_recall, last_precision = recall, precision
    return area


def inverse_negative_penalty(hits: Sequence[bool]) -> float:
    last = max(match_ranks(hits))
    wrong_before_last = sum(not hit for hit in hits[:last])
    return 1 - wrong_before_last / last


def cmc(all_hits: Sequence[Sequence[bool]], max_rank: int) -> list[float]:
    """Over queries that have a match: share with a match among the first k, for k = 1 .. max_rank."""
    counted = [hits for hits in all_hits if any(hits)]
    return [sum(any(hits[:k]) for hits in counted) / len(counted) for k in range(1, max_rank + 1)]
