"""The tables of ``docs/speed.md``, from the recorded results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tabulate import tabulate

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "speed.md"
_TABLE = re.compile(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", flags=re.DOTALL)


def filled(page: str) -> str:
    """The page with every table between ``<!-- NAME -->`` and ``<!-- /NAME -->`` as it is recorded."""
    return _TABLE.sub(lambda found: f"<!-- {found[1]} -->\n{_table(found[1])}\n<!-- /{found[1]} -->", page)


def update() -> None:
    """Write the recorded tables into the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def _table(name: str) -> str:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return "Not recorded yet."
    recorded = json.loads(path.read_text(encoding="utf-8"))
    rows = [_readable(row) for row in recorded["rows"]]
    stamp = f"{recorded['machine']}, commit {recorded['commit']}"
    return f"{tabulate(rows, headers='keys', tablefmt='github', disable_numparse=True)}\n\n{stamp}"


def _readable(row: dict[str, Any]) -> dict[str, str]:
    return {key: _cell(value) for key, value in row.items()}


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)
