"""Interleaved timing: every case in turn, several rounds, so that a machine's drift meets all cases alike."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

ROUNDS = 5


def medians(cases: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each case, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(rounds + 1):
        for name, case in cases.items():
            started = time.perf_counter()
            case()
            if round_ > 0:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_mib(module: str, case: str) -> float:
    """Most memory that a run of ``module.cases()[case]`` needs beyond what building it took: median of 3 processes."""
    command = [sys.executable, "-m", "benchmarks._peak", module, case]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(3)]  # noqa: S603
    return statistics.median(float(run.stdout) for run in runs)
