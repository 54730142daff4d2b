"""Seconds and memory for CMC, mAP and mINP at Market-1501's and MSMT17's size, against sorting every row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks._rows import Row
from benchmarks._timing import medians, peak_mib
from reid.evaluation.labels import Labels
from reid.evaluation.metrics import retrieval_metrics
from reid.evaluation.ranking import rank_matches

NAME = "metrics"
SORT, OURS = "argsort of the scores alone", "reid, ranks and all metrics"
PIDS, CAMERAS = 750, 6
SIZES = {"Market-1501": (3368, 15913), "MSMT17": (11659, 82161)}
SECONDS = {"Market-1501": 0.5, "MSMT17": 10.0}
MIB = 1024.0  # beyond the scores


def measure() -> list[Row]:
    """Rows: a stable argsort of the scores alone, which usual evaluations begin with, and all of ours."""
    rows = []
    for name in SIZES:
        seconds = medians(_cases(name), rounds=2)
        base = seconds[f"{name}: {SORT}"]
        for case, value in seconds.items():
            ours = case.endswith(OURS)
            memory = peak_mib(NAME, case) if ours else None
            goal = SECONDS[name] if ours else None
            rows.append(Row(case, value, "s", base / value, memory, goal, goal_is_value=True))
            if memory is not None and name == "MSMT17":
                rows.append(Row(f"{case}, memory", memory, "MiB", 1.0, memory, MIB, goal_is_value=True))
    return rows


def cases() -> dict[str, Callable[[], object]]:
    """Name -> rank and measure; every size."""
    return {case: run for name in SIZES for case, run in _cases(name).items()}


def _cases(name: str) -> dict[str, Callable[[], object]]:
    num_query, num_gallery = SIZES[name]
    rng = np.random.default_rng(0)
    query, gallery = _labels(rng, num_query), _labels(rng, num_gallery)
    score_QG = rng.standard_normal((num_query, num_gallery), dtype=np.float32)
    return {
        f"{name}: {SORT}": lambda: [np.argsort(-row_G, kind="stable") for row_G in score_QG],
        f"{name}: {OURS}": lambda: retrieval_metrics(rank_matches(score_QG, query, gallery)),
    }


def _labels(rng: np.random.Generator, num: int) -> Labels:
    return Labels(
        pid_N=rng.integers(PIDS, size=num),
        camid_N=rng.integers(CAMERAS, size=num),
        role_N=np.zeros(num, dtype=np.int8),
        source_N=np.full(num, "random"),
    )
