from typing import Literal

import pytest
from pydantic import Field, PositiveInt

from reid.config import Config
from reid.keys import Key, key_table, keys, nested


class Inner(Config):
    """An inner table."""

    name: Literal["inner"] = "inner"
    size: PositiveInt = Field(3, description="of it")


class Other(Config):
    name: Literal["other"] = "other"


class Outer(Config):
    needed: float = Field(ge=0, lt=1, description="no default")
    either: Literal["a", "b"] = "a"
    maybe: PositiveInt | None = None
    pair: tuple[int, PositiveInt] = (1, 2)
    many: tuple[str, ...] = ()
    inner: Inner = Inner()
    one_of: Inner | Other = Field(Inner(), discriminator="name")


def test_keys_of_a_table():
    assert keys(Inner) == [Key("size", "integer > 0", "3", "of it")]
    assert [key[:3] for key in keys(Outer)] == [
        ("needed", "number >= 0 and < 1", "needed"),
        ("either", '"a", "b"', '"a"'),
        ("maybe", "integer > 0", ""),
        ("pair", "[integer, integer > 0]", "[1, 2]"),
        ("many", "list of: text", "[]"),
        ("inner", "table", ""),
        ("one_of", "table", ""),
    ]


def test_tables_within_a_table():
    assert list(nested(Outer)) == [("inner", Inner), ("one_of", Inner), ("one_of", Other)]


@pytest.mark.parametrize(("form", "corner"), [("pipe", "| key"), ("simple", "key")])
def test_as_a_table(form, corner):
    shown = key_table(keys(Inner), form)
    assert shown.startswith(corner)
    assert "integer > 0" in shown
