import importlib
import pkgutil
from pathlib import Path

import reid.datasets
from reid.datasets._base import Counts, DatasetInfo
from reid.datasets._readme import readme

PAGE = Path(__file__).parents[2] / "datasets" / "README.md"


def infos():
    names = [module.name for module in pkgutil.iter_modules(reid.datasets.__path__) if not module.name.startswith("_")]
    return {name: importlib.import_module(f"reid.datasets.{name}").COMPONENT.info for name in names}


def test_page_on_disk_is_the_generated_one():
    assert PAGE.read_text(encoding="utf-8") == readme(infos()), "write readme(infos) to datasets/README.md again"


def test_section():
    info = DatasetInfo("Title", "Paper", "free", "here", "a/\n  b.jpg", {"": {"query": Counts(1_234, 5)}}, "A note.")
    page = readme({"small": info, "another": info})
    assert page.index("## another: Title") < page.index("## small: Title")
    assert "- Paper: Paper.\n- Licence: free.\n- Where: here.\n- A note.\n" in page
    assert "```\na/\n  b.jpg\n```" in page
    row = next(line for line in page.splitlines() if "query" in line)
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["-", "query", "1,234", "5", "-"]
    assert page.endswith("\n")


def test_counts_that_are_not_published():
    own, none = (DatasetInfo("T", "P", "free", "here", "a/", None, counts_from=place) for place in ("in a file", ""))
    page = readme({"a": own, "b": none})
    assert "\nCounts: in a file.\n" in page
    assert page.endswith("\nCounts: none published; reported as unchecked.\n")
