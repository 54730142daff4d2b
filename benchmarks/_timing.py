"""Interleaved timing: every case in turn, several rounds, so that a machine's drift meets all cases alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

ROUNDS = 5


def medians(cases: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each case, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(ROUNDS + 1):
        for name, case in cases.items():
            started = time.perf_counter()
            case()
            if round_ > 0:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}
