"""A recorded benchmark as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tabulate import tabulate

RESULTS = Path(__file__).parent / "results"


def speed_table(file: Path) -> str:
    """Its rows, then the machine and the commit they were measured on."""
    recorded = json.loads(file.read_text(encoding="utf-8"))
    rows = [{key: _cell(value) for key, value in row.items()} for row in recorded["rows"]]
    stamp = f"{recorded['machine']}, commit {recorded['commit']}"
    return f"{tabulate(rows, headers='keys', tablefmt='github', disable_numparse=True)}\n\n{stamp}"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
