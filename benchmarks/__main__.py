"""``python -m benchmarks NAME``: run one benchmark, or ``all``; print a table and write it as JSON beside the code."""

from __future__ import annotations

import sys
from pathlib import Path

from tabulate import tabulate

from benchmarks import extraction, graph_sampling, metrics, pair_scoring, synthped, train_step
from reid.files import write_json
from reid.runs import commit, machine

BENCHMARKS = {
    "extraction": extraction.measure,
    "graph_sampling": graph_sampling.measure,
    "metrics": metrics.measure,
    "pair_scoring": pair_scoring.measure,
    "synthped": synthped.measure,
    "train_step": train_step.measure,
}
RESULTS = Path(__file__).parent / "results"


def main(names: list[str]) -> int:
    """Run the named benchmarks."""
    chosen = list(BENCHMARKS) if names == ["all"] else names
    if not chosen or set(chosen) - BENCHMARKS.keys():
        print(f"usage: python -m benchmarks all | {' | '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in chosen:
        rows = [row.record() for row in BENCHMARKS[name]()]
        print(f"\n{name} on {machine()}\n" + tabulate(rows, headers="keys", tablefmt="github", floatfmt=".4g"))
        write_json(RESULTS / f"{name}.json", {"name": name, "machine": machine(), "commit": commit(), "rows": rows})
    return 0


sys.exit(main(sys.argv[1:]))
