"""What the pages in docs show is what was recorded."""

import json
import re

import pytest

from benchmarks import _speed_table, pages
from reid.evaluation.results import TargetResult, read_results, write_results
from tests.report.runs import run, target


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_tables_are_those_recorded(page):
    text = page.read_text(encoding="utf-8")
    assert text == pages.filled(text), "run: make tables"


def test_everything_recorded_is_shown():
    tables = [table for page in pages.PAGES for table in pages.TABLE.findall(page.read_text(encoding="utf-8"))]
    shown = {file for kind, patterns in tables for file in pages.chosen(kind, patterns.split())}
    assert {*pages.RECORDED.rglob("*.json"), *_speed_table.RESULTS.glob("*.json")} == shown


def test_a_table_of_speed_is_filled_in(tmp_path, monkeypatch):
    rows = [{"case": "a", "value": 1234.5, "met": True}, {"case": "b", "value": 0.12345, "met": None}]
    facts = {"name": "x", "machine": "a machine", "commit": "abc", "rows": rows}
    (tmp_path / "x.json").write_text(json.dumps(facts))
    monkeypatch.setattr(_speed_table, "RESULTS", tmp_path)
    page = pages.filled("before\n<!-- speed x -->\nold\n<!-- /speed -->\n<!-- speed y -->\n<!-- /speed -->\nafter")
    assert "| a      | 1,234   | yes   |" in page
    assert "| b      | 0.1235  | -     |" in page
    assert "a machine, commit abc\n<!-- /speed -->\n<!-- speed y -->\nNot recorded yet.\n<!-- /speed -->\nafter" in page
    assert "old" not in page


def test_results_are_chosen_by_patterns(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "RECORDED", tmp_path)
    for seed, rank1 in enumerate((0.4, 0.6)):
        write_results(tmp_path / f"a_seed{seed}.json", run(target(rank1=rank1), seed=seed, recipe="a1"))
    write_results(tmp_path / "b_seed0.json", run(target(rank1=0.1), recipe="b1"))
    page = "<!-- overview * !b_* -->\nold\n<!-- /overview -->\n<!-- stages c* -->\n<!-- /stages -->"
    text = pages.filled(page)
    assert "50.0 ± 14.1 / 25.0 ± 0.0" in text
    assert "10.0" not in text
    assert text.endswith("<!-- stages c* -->\nNot recorded yet.\n<!-- /stages -->")
    assert pages.filled(text) == text
    assert [path.stem for path in pages.chosen("mean", ["b_*", "*"])] == ["b_seed0", "a_seed0", "a_seed1"]


def recorded(name: str, target: str) -> TargetResult:
    results = read_results(pages.RECORDED / f"{name}.json")
    return next(entry for entry in results.targets if entry.target == target)


def gained(method: str, other: str, target: str, metric: str) -> str:
    """Points from ``other`` to ``method`` of the same seed, over three seeds, as the README writes them."""
    pairs = [[recorded(f"{name}_seed{seed}", target) for name in (method, other)] for seed in range(3)]
    points = [100 * (getattr(ours, metric) - getattr(theirs, metric)) for ours, theirs in pairs]
    return f"{min(points):.1f} to {max(points):.1f}"


README = " ".join((pages.ROOT / "README.md").read_text(encoding="utf-8").split())
DEV = "market1501_dev_{}".format


@pytest.mark.parametrize(
    ("sentence", "method", "other"),
    [
        ("In its own domain TransMatcher is {0} points of Rank-1 and {1} of mAP ahead", "transmatcher", "embedding"),
        ("QAConv {0} and {1}; on the drawn street TransMatcher {2} and {3}, QAConv", "qaconv", "embedding"),
        ("QAConv is ahead of TransMatcher by {0} points of Rank-1 at home", "qaconv", "transmatcher"),
    ],
)
def test_margins_on_photographs_are_those_recorded(sentence, method, other):
    home = [gained(DEV(method), DEV(other), "market1501-dev", metric) for metric in ("rank1", "mAP")]
    street = [gained(DEV("transmatcher"), DEV(other), "synthped (street)", metric) for metric in ("rank1", "mAP")]
    assert sentence.format(*home, *street) in README


def test_margins_of_the_demo_are_those_recorded():
    said = README.partition("equally trained global embedding TransMatcher gains ")[2]
    said = said.partition(": ahead everywhere")[0]
    wanted = []
    for place, words in (("studio", "in its own domain,"), ("street", "on the street,"), ("mall", "in the mall")):
        ours, theirs = (recorded(f"synthped_{name}", f"synthped ({place})") for name in ("transmatcher", "embedding"))
        wanted += [f"{100 * (getattr(ours, metric) - getattr(theirs, metric)):.1f}" for metric in ("rank1", "mAP")]
        wanted.append(words)
    assert re.fullmatch(".*?".join(map(re.escape, wanted)), said), (wanted, said)
