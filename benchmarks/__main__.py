"""``python -m benchmarks NAME``: run one benchmark, or ``all``; print a table, write it as JSON and into the docs."""

from __future__ import annotations

import sys

import torch
from tabulate import tabulate

from benchmarks import (
    extraction,
    graph_sampling,
    matchers,
    metrics,
    pages,
    pair_scoring,
    pair_scoring_cuda,
    reranking,
    synthped,
    train_step,
)
from benchmarks._speed_table import RESULTS
from reid.files import write_json
from reid.runs import commit, machine

BENCHMARKS = {
    "extraction": extraction.measure,
    "graph_sampling": graph_sampling.measure,
    "matchers": matchers.measure,
    "metrics": metrics.measure,
    "pair_scoring": pair_scoring.measure,
    "reranking": reranking.measure,
    "synthped": synthped.measure,
    "train_step": train_step.measure,
} | ({"pair_scoring_cuda": pair_scoring_cuda.measure} if torch.cuda.is_available() else {})


def main(names: list[str]) -> int:
    """Run the named benchmarks."""
    chosen = list(BENCHMARKS) if names == ["all"] else names
    if not chosen or set(chosen) - BENCHMARKS.keys():
        print(f"usage: python -m benchmarks all | {' | '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in chosen:
        rows = [row.record() for row in BENCHMARKS[name]()]
        print(f"\n{name} on {machine()}\n" + tabulate(rows, headers="keys", tablefmt="github", floatfmt=".4g"))
        facts = {"name": name, "machine": machine(), "commit": commit(), "rows": rows}
        write_json(RESULTS / f"{name}.json", facts)
        pages.update()
    return 0


sys.exit(main(sys.argv[1:]))
