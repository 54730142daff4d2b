"""``python -m benchmarks._peak MODULE CASE``: print the memory that one run of a case needs, MiB."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path

import torch


def main(module: str, case: str) -> None:
    """Run the case once, and watch this process's resident memory every few milliseconds."""
    run = importlib.import_module(f"benchmarks.{module}").cases()[case]
    (torch.randn(512, 512, requires_grad=True) @ torch.randn(512, 512)).sum().backward()  # libraries set themselves up
    before, peak, done = _resident_mib(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.003):
            peak = max(peak, _resident_mib() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    print(peak)


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * 4096 / 2**20


main(*sys.argv[1:])
