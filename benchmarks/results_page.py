"""The tables of README.md and docs/results.md, from the recorded results of experiments.

``<!-- KIND PATTERN ... -->`` begins a table, ``<!-- /KIND -->`` ends it. Patterns choose files of experiments/results,
in the order of the patterns; one that begins with ``!`` takes files away. ``python -m benchmarks.results_page`` writes
all tables anew.
"""

from __future__ import annotations

import re
from pathlib import Path

from reid.evaluation.correspondence_results import read_correspondences
from reid.evaluation.results import read_results
from reid.files import write_text
from reid.report.correspondence_summary import correspondence_summary
from reid.report.stages import stages_table
from reid.report.summary import overview, summary

ROOT = Path(__file__).parent.parent
RECORDED = ROOT / "experiments" / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
RETRIEVAL = {"mean": summary, "overview": overview, "stages": stages_table}
_TABLE = re.compile(r"<!-- (mean|overview|stages|correspondences) (.+?) -->\n.*?<!-- /\1 -->", flags=re.DOTALL)


def filled(page: str) -> str:
    """The page with every table as it is recorded."""
    return _TABLE.sub(
        lambda found: f"<!-- {found[1]} {found[2]} -->\n{_table(found[1], found[2].split())}\n<!-- /{found[1]} -->",
        page,
    )


def chosen(patterns: list[str]) -> list[Path]:
    """Recorded files that fit, each once."""
    wanted = [file for pattern in patterns if pattern[0] != "!" for file in sorted(RECORDED.glob(f"{pattern}.json"))]
    left_out = {file for pattern in patterns if pattern[0] == "!" for file in RECORDED.glob(f"{pattern[1:]}.json")}
    return [file for file in dict.fromkeys(wanted) if file not in left_out]


def _table(kind: str, patterns: list[str]) -> str:
    files = chosen(patterns)
    if not files:
        return "Not recorded yet."
    if kind == "correspondences":
        return correspondence_summary([read_correspondences(file) for file in files])
    return RETRIEVAL[kind]([read_results(file) for file in files]) or "Not recorded yet."


def update() -> None:
    """Write the recorded tables into the pages."""
    for page in PAGES:
        write_text(page, filled(page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    update()
