"""Interleaved timing: every case in turn, several rounds, so that a machine's drift meets all cases alike."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

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


@dataclass(slots=True)
class Peak:
    """Most memory held beyond what was held before, MiB."""

    mib: float = 0.0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Watch the resident memory of this process, every few milliseconds."""
    peak, done = Peak(), threading.Event()
    before = _resident_mib()

    def watch() -> None:
        while not done.wait(0.003):
            peak.mib = max(peak.mib, _resident_mib() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def product_rate(rows: int, columns: int, depth: int, dtype: torch.dtype) -> float:
    """Measured peak of a plain matrix product of this shape, FLOP/s."""
    left, right = torch.randn(rows, depth).to(dtype), torch.randn(depth, columns).to(dtype)
    out = torch.empty(rows, columns, dtype=dtype)
    seconds = medians({"product": lambda: [torch.mm(left, right, out=out) for _ in range(10)]})["product"] / 10
    return 2 * rows * columns * depth / seconds


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * 4096 / 2**20
