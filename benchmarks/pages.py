"""The tables of README.md and docs/, from what is recorded.

``<!-- KIND PATTERN ... -->`` begins a table, ``<!-- /KIND -->`` ends it. Patterns choose recorded files, in the order
of the patterns; one that begins with ``!`` takes files away. Kind ``speed`` is of benchmarks/results, the others are of
experiments/results. ``python -m benchmarks.pages`` writes all tables anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from benchmarks import _speed_table
from reid import reference
from reid.evaluation.correspondence_results import read_correspondences
from reid.evaluation.results import read_results
from reid.files import write_text
from reid.report.correspondence_summary import correspondence_summary
from reid.report.stages import gains_table, stages_table
from reid.report.summary import overview, summary

ROOT = Path(__file__).parent.parent
RECORDED = ROOT / "experiments" / "results"
KEYS_PAGE = ROOT / "docs" / "keys.md"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md", ROOT / "docs" / "speed.md")
KINDS: dict[str, Callable[[list[Path]], str | None]] = {
    "mean": lambda files: summary([read_results(file) for file in files]),
    "overview": lambda files: overview([read_results(file) for file in files]),
    "stages": lambda files: stages_table([read_results(file) for file in files]),
    "gains": lambda files: gains_table([read_results(file) for file in files]),
    "correspondences": lambda files: correspondence_summary([read_correspondences(file) for file in files]),
    "speed": lambda files: "\n\n".join(_speed_table.speed_table(file) for file in files),
}
TABLE = re.compile(rf"<!-- ({'|'.join(KINDS)}) (.+?) -->\n.*?<!-- /\1 -->", flags=re.DOTALL)


def filled(page: str) -> str:
    """The page with every table as it is recorded."""
    return TABLE.sub(
        lambda found: f"<!-- {found[1]} {found[2]} -->\n{_table(found[1], found[2].split())}\n<!-- /{found[1]} -->",
        page,
    )


def chosen(kind: str, patterns: list[str]) -> list[Path]:
    """Recorded files that fit, each once."""
    folder = _speed_table.RESULTS if kind == "speed" else RECORDED
    wanted = [file for pattern in patterns if pattern[0] != "!" for file in sorted(folder.glob(f"{pattern}.json"))]
    left_out = {file for pattern in patterns if pattern[0] == "!" for file in folder.glob(f"{pattern[1:]}.json")}
    return [file for file in dict.fromkeys(wanted) if file not in left_out]


def update() -> None:
    """Write the recorded tables into the pages, and the page of all keys."""
    write_text(KEYS_PAGE, reference.page())
    for page in PAGES:
        write_text(page, filled(page.read_text(encoding="utf-8")))


def _table(kind: str, patterns: list[str]) -> str:
    files = chosen(kind, patterns)
    return (KINDS[kind](files) if files else "") or "Not recorded yet."


if __name__ == "__main__":
    update()
