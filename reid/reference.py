"""All keys of an experiment file, table by table: the page docs/keys.md and what ``reid keys`` prints."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from reid.build import Kind, component_module, component_names
from reid.config import Config, nearest
from reid.errors import ConfigError
from reid.keys import Key, key_table, keys, nested
from reid.schema import Experiment

_KINDS: tuple[Kind, ...] = ("dataset", "backbone", "matcher", "sampler", "loss", "reranker")

HEAD = """# All keys of an experiment file

Written by `make tables` from the code; `reid keys TABLE` prints a part of it. Any key can be overridden on the
command line: `--set stage.0.optimizer.lr=0.01`. What is "needed" has no default. A run's `config.toml` has all keys
of its experiment written out."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table of an experiment file.

    Attributes:
        place: what it is called: ``stage.optimizer``, or a component's ``matcher.qaconv``.
        meaning: what it is for.
        keys: what can stand in it.
    """

    place: str
    meaning: str
    keys: tuple[Key, ...]


@cache
def tables() -> tuple[Table, ...]:
    """All tables: the experiment's own, then those of components, kind by kind."""
    own = [Table("experiment", _first_lines(Experiment), tuple(keys(Experiment))), *_within(Experiment, "")]
    return (*own, *(table for kind in _KINDS for name in component_names(kind) for table in _component(kind, name)))


def find_tables(place: str) -> list[Table]:
    """The tables of that place and those within it.

    Raises:
        ConfigError: there is none.
    """
    found = [table for table in tables() if f"{table.place}.".startswith(f"{place}.")]
    if not found:
        places = {part for table in tables() for part in (table.place, table.place.partition(".")[0])}
        raise ConfigError(f"reid keys: no table named {place!r}. {nearest(place, places)}")
    return found


def page() -> str:
    """The text of docs/keys.md."""
    sections = (
        f"## {table.place}\n\n{table.meaning}\n\n{key_table(table.keys) if table.keys else 'Nothing to set.'}"
        for table in tables()
    )
    return "\n\n".join([HEAD, *sections]) + "\n"


def _component(kind: Kind, name: str) -> Iterator[Table]:
    module = component_module(kind, name, "reid keys")
    place = f"{kind}.{name}"
    yield Table(place, _first_lines(module), tuple(keys(module.Config)))
    yield from _within(module.Config, f"{place}.")


def _within(config: type[Config], above: str) -> Iterator[Table]:
    for key, table in nested(config):
        name = table.model_fields["name"].default if "name" in table.model_fields else None
        several = sum(other == key for other, _ in nested(config)) > 1
        place = f"{above}{key}.{name}" if several else f"{above}{key}"
        yield Table(place, _first_lines(table), tuple(keys(table)))
        yield from _within(table, f"{place}.")


def _first_lines(described: type | ModuleType) -> str:
    text = " ".join((inspect.getdoc(described) or "").partition("\n\n")[0].split())
    return text.replace("``", "`")
