from typing import Any, Literal

import pytest

from reid.config import Config, nearest, parse, read_toml, set_value
from reid.errors import ConfigError


class Inner(Config):
    name: Literal["inner"] = "inner"
    depth: int = 1


class Outer(Config):
    title: str
    inner: Inner = Inner()
    inners: tuple[Inner, ...] = ()
    maybe: Inner | None = None
    free: dict[str, Any] = {}


def test_parse_fills_in_defaults():
    assert parse(Outer, {"title": "t", "inner": {"depth": 3}}, "x").inner == Inner(depth=3)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"titel": "t", "title": "t"}, ["x.toml", "'titel'", "'title'"]),
        ({}, ["'title' is missing"]),
        ({"title": "t", "inner": {"dept": 3}}, ["'inner.dept'", "'depth'"]),
        ({"title": "t", "inners": [{}, {"dept": 3}]}, ["'inners.1.dept'", "'depth'"]),
        ({"title": "t", "maybe": {"dept": 3}}, ["'maybe.dept'", "'depth'"]),
        ({"title": "t", "inner": {"depth": "deep"}}, ["inner.depth", "'deep'", "integer"]),
    ],
)
def test_parse_says_where_and_what_is_near(table, words):
    with pytest.raises(ConfigError) as caught:
        parse(Outer, table, "x.toml")
    for word in words:
        assert word in str(caught.value)


def test_nearest_lists_all_where_nothing_is_near():
    assert nearest("zzz", ["b", "a"]) == "Known: a, b."


def test_read_toml_names_line_and_column(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("a = 1\nb = = 2\n")
    with pytest.raises(ConfigError, match=r"bad\.toml.*line 2, column 5"):
        read_toml(path)
    with pytest.raises(ConfigError, match="no such file"):
        read_toml(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path)


def test_set_value_reads_toml_values():
    table = {"a": {"b": [{"c": 1}]}, "s": 1}
    for assignment in ["a.b.0.c=2", "a.new.x=[1, 2]", "s=word", "t = 'quoted'"]:
        set_value(table, assignment)
    assert table == {"a": {"b": [{"c": 2}], "new": {"x": [1, 2]}}, "s": "word", "t": "quoted"}


@pytest.mark.parametrize("assignment", ["a", "a.b.1.c=2", "a.b.x.c=2", "s.x.y=1", "s.x=1"])
def test_set_value_refuses_what_leads_nowhere(assignment):
    with pytest.raises(ConfigError, match="--set"):
        set_value({"a": {"b": [{"c": 1}]}, "s": 1}, assignment)
