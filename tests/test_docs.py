"""What the pages in docs show is what was recorded."""

import json
import re

import pytest

from benchmarks import _page, results_page
from reid.evaluation.results import write_results
from tests.report.runs import run, target


def test_the_tables_are_those_recorded():
    text = _page.PAGE.read_text(encoding="utf-8")
    assert text == _page.filled(text), "run: python -c 'from benchmarks import _page; _page.update()'"


def test_every_recorded_benchmark_is_shown():
    shown = set(re.findall(r"<!-- (\w+) -->", _page.PAGE.read_text(encoding="utf-8")))
    assert {path.stem for path in _page.RESULTS.glob("*.json")} <= shown


def test_a_table_is_filled_in(tmp_path, monkeypatch):
    rows = [{"case": "a", "value": 1234.5, "met": True}, {"case": "b", "value": 0.12345, "met": None}]
    facts = {"name": "x", "machine": "a machine", "commit": "abc", "rows": rows}
    (tmp_path / "x.json").write_text(json.dumps(facts))
    monkeypatch.setattr(_page, "RESULTS", tmp_path)
    page = _page.filled("before\n<!-- x -->\nold\n<!-- /x -->\n<!-- y -->\n<!-- /y -->\nafter")
    assert "| a      | 1,234   | yes   |" in page
    assert "| b      | 0.1235  | -     |" in page
    assert "a machine, commit abc\n<!-- /x -->\n<!-- y -->\nNot recorded yet.\n<!-- /y -->\nafter" in page
    assert "old" not in page


@pytest.mark.parametrize("page", results_page.PAGES, ids=lambda page: page.name)
def test_the_tables_of_results_are_those_recorded(page):
    text = page.read_text(encoding="utf-8")
    assert text == results_page.filled(text), "run: make tables"


def test_every_recorded_result_is_shown():
    pages = "".join(page.read_text(encoding="utf-8") for page in results_page.PAGES)
    patterns = re.findall(r"<!-- (?:mean|overview|stages|correspondences) (.+?) -->", pages)
    shown = {file for each in patterns for file in results_page.chosen(each.split())}
    assert set(results_page.RECORDED.rglob("*.json")) == shown


def test_results_are_chosen_by_patterns(tmp_path, monkeypatch):
    monkeypatch.setattr(results_page, "RECORDED", tmp_path)
    for seed, rank1 in enumerate((0.4, 0.6)):
        write_results(tmp_path / f"a_seed{seed}.json", run(target(rank1=rank1), seed=seed, recipe="a1"))
    write_results(tmp_path / "b_seed0.json", run(target(rank1=0.1), recipe="b1"))
    page = "<!-- overview * !b_* -->\nold\n<!-- /overview -->\n<!-- stages c* -->\n<!-- /stages -->"
    text = results_page.filled(page)
    assert "50.0 ± 14.1 / 25.0 ± 0.0" in text
    assert "10.0" not in text
    assert text.endswith("<!-- stages c* -->\nNot recorded yet.\n<!-- /stages -->")
    assert results_page.filled(text) == text
    assert [path.stem for path in results_page.chosen(["b_*", "*"])] == ["b_seed0", "a_seed0", "a_seed1"]
