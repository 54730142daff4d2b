"""Seconds for CMC, mAP and mINP at Market-1501's size, against sorting every row."""

from __future__ import annotations

import numpy as np

from benchmarks._rows import Row
from benchmarks._timing import medians
from reid.evaluation.labels import Labels
from reid.evaluation.metrics import retrieval_metrics
from reid.evaluation.ranking import rank_matches

QUERIES, GALLERY, PIDS, CAMERAS = 3368, 15913, 750, 6


def measure() -> list[Row]:
    """Rows: a stable argsort of the scores alone, which usual evaluations begin with, and all of ours."""
    rng = np.random.default_rng(0)
    score_QG = rng.standard_normal((QUERIES, GALLERY), dtype=np.float32)
    query, gallery = _labels(rng, QUERIES), _labels(rng, GALLERY)
    cases = {
        "argsort of the scores alone": lambda: np.argsort(-score_QG, axis=1, kind="stable"),
        "reid, ranks and all metrics": lambda: retrieval_metrics(rank_matches(score_QG, query, gallery)),
    }
    seconds = medians(cases)
    base = seconds["argsort of the scores alone"]
    return [Row(name, value, "s", base / value) for name, value in seconds.items()]


def _labels(rng: np.random.Generator, num: int) -> Labels:
    return Labels(
        pid_N=rng.integers(PIDS, size=num),
        camid_N=rng.integers(CAMERAS, size=num),
        role_N=np.zeros(num, dtype=np.int8),
        source_N=np.full(num, "random"),
    )
