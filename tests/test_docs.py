"""What the pages in docs show is what was recorded."""

import json

import pytest

from benchmarks import _speed_table, pages
from reid.evaluation.results import write_results
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
