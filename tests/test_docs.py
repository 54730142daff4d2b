"""What the pages in docs show is what was recorded."""

import json
import re

from benchmarks import _page


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
