"""A file imports from its own line of the house (DESIGN) or from lines above; components never import each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "reid"
LINES = [
    {"errors", "types", "config", "files", "images", "keys", "memory", "progress", "vision"},
    {"nn", "kernels"},
    {"datasets"},
    {"backbones"},
    {"matchers", "losses", "protocols"},
    {"data"},
    {"evaluation", "reranking"},
    {"engine"},
    {"report", "search"},
    {"build"},
    {"schema"},
    {"experiment", "reference"},
    {"recipe"},
    {"runs"},
    {"domains"},
    {"trained_on"},
    {"models"},
    {"staging"},
    {"train", "convert"},
    {"trial"},
    {"trial_in_two"},
    {"pipeline"},
    {"evaluate", "curve", "match", "correspond"},
    {"pictures"},
    {"cli_options"},
    {"cli_results"},
    {"cli_data", "cli_evaluate", "cli_curve", "cli_keys", "cli_match", "cli_correspond"},
    {"cli"},
    {"__main__"},
]
LINE_OF = {name: number for number, names in enumerate(LINES) for name in names}
COMPONENT_FOLDERS = {
    "reranking",
    "datasets",
    "backbones",
    "matchers",
    "losses",
    "protocols",
    "data/samplers",
    "engine/tasks",
}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imported(path):
    """Modules of reid that a file imports, as tuples of names below ``reid``."""
    for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (tuple(name.split(".")[1:]) for name in names if name.split(".")[0] == "reid")


def line_of(parts):
    return LINE_OF[parts[0]]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_flow_down(path):
    if path == Path("__init__.py"):  # the front door: reid.load() imports what it needs when it is called
        return
    own = line_of(path.with_suffix("").parts)
    wrong = [".".join(parts) for parts in imported(path) if parts and parts[0] in LINE_OF and line_of(parts) > own]
    assert not wrong, f"reid/{path} imports from below its line: {wrong}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_components_do_not_import_each_other(path):
    for folder in COMPONENT_FOLDERS:
        home = tuple(folder.split("/"))
        if path.parts[: len(home)] != home or path.name.startswith("_"):
            continue
        own = path.with_suffix("").parts[len(home)]
        others = {parts[len(home)] for parts in imported(path) if parts[: len(home)] == home and len(parts) > len(home)}
        strangers = {name for name in others if not name.startswith("_")} - {own}
        assert not strangers, f"reid/{path} imports other components: {strangers}"


def test_every_file_has_a_line():
    assert {path.with_suffix("").parts[0] for path in FILES} - {"__init__"} <= set(LINE_OF)


def test_the_house_stands_in_the_page_for_contributors():
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "\n".join("    " + ", ".join(sorted(names)) for names in LINES) + "\n" in page
