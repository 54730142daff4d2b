"""Strict reading of TOML: unknown keys are errors that name the nearest known one."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from reid.errors import ConfigError


class Config(BaseModel):
    """Base of every table that can stand in an experiment file: frozen, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid")


ConfigT = TypeVar("ConfigT", bound=Config)


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known name, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names)}."


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing, unreadable or no TOML; the message has line and column.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. Experiments that come with reid: experiments/*.toml.") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}.") from None


def parse(model: type[ConfigT], table: Mapping[str, Any], where: str) -> ConfigT:
    """Validate ``table`` against ``model``.

    Args:
        model: the pydantic model.
        table: the table as read.
        where: what the message starts with, such as ``experiments/x.toml [matcher]``.

    Raises:
        ConfigError: a key is unknown or missing, or a value does not fit; all of them are listed.
    """
    try:
        return model.model_validate(dict(table))
    except ValidationError as error:
        lines = [_describe(model, problem) for problem in error.errors()]
    raise ConfigError(f"{where}: " + " ".join(lines))


def _describe(model: type[BaseModel], problem: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {place!r}. {nearest(str(problem['loc'][-1]), _known_keys(model, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"key {place!r} is missing."
    if problem["type"] == "value_error" and isinstance(problem["input"], Mapping):  # a whole table says nothing
        return f"{place}: {problem['ctx']['error']}." if place else f"{problem['ctx']['error']}."
    return f"{place} = {problem['input']!r}: {problem['msg']}."


def _known_keys(model: type[BaseModel], place: tuple[str | int, ...]) -> Iterable[str]:
    models = [model]
    for part in place:
        if isinstance(part, int):
            continue
        # where a table may be one of several, its name stands in the place as well
        named = [entry for entry in models if len(models) > 1 and entry.model_fields["name"].default == part]
        if named:
            models = named
            continue
        annotation = models[0].model_fields[part].annotation
        inner = [*getattr(annotation, "__args__", ()), annotation]
        models = [entry for entry in inner if isinstance(entry, type) and issubclass(entry, BaseModel)]
        if not models:
            return ()
    return models[0].model_fields


def set_value(table: dict[str, Any], assignment: str) -> None:
    """Apply ``a.b.0.c=VALUE`` to a table in place; VALUE is TOML, or a plain string where it is not.

    Raises:
        ConfigError: there is no ``=``, or the path crosses something that is no table.
    """
    path, equals, text = assignment.partition("=")
    if not equals:
        raise ConfigError(f"--set {assignment}: wanted key.path=value, found no '='.")
    *parents, last = path.strip().split(".")
    target: Any = table
    for part in parents:
        target = _step(target, part, assignment)
    if isinstance(target, list):
        target[_index(target, last, assignment)] = _value(text)
    elif isinstance(target, dict):
        target[last] = _value(text)
    else:
        raise ConfigError(f"--set {assignment}: {'.'.join(parents)} is a value, not a table.")


def _step(target: Any, part: str, assignment: str) -> Any:
    if isinstance(target, list):
        return target[_index(target, part, assignment)]
    if isinstance(target, dict):
        return target.setdefault(part, {})
    raise ConfigError(f"--set {assignment}: {part!r} stands under a value, not under a table.")


def _index(items: list[Any], part: str, assignment: str) -> int:
    if not part.isdecimal() or int(part) >= len(items):
        raise ConfigError(f"--set {assignment}: wanted a number from 0 to {len(items) - 1}, found {part!r}.")
    return int(part)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
