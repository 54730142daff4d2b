"""The keys of a table of an experiment file, as a user reads them: name, values, default, meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from tabulate import tabulate

from reid.config import Config

Schema = Mapping[str, Any]

_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


class Key(NamedTuple):
    """One key; ``default`` is ``"needed"`` where there is none, and "" where it is a table of its own."""

    name: str
    values: str
    default: str
    meaning: str


def keys(config: type[Config]) -> list[Key]:
    """The keys of a table in the order of their declaration; ``name``, which chooses a component, is left out."""
    schema = config.model_json_schema()
    needed = schema.get("required", ())
    return [
        Key(name, _values(field, schema), "needed" if name in needed else _default(field), field.get("description", ""))
        for name, field in schema["properties"].items()
        if "const" not in field
    ]


def nested(config: type[Config]) -> Iterator[tuple[str, type[Config]]]:
    """(key, its table) for each key whose value is a table of a known form, or one of several such."""
    for name, field in config.model_fields.items():
        for table in _tables(field.annotation):
            yield name, table


def key_table(rows: Sequence[Key], form: str = "pipe", widths: Sequence[int | None] | None = None) -> str:
    """The keys as a table, in one of tabulate's forms."""
    return tabulate(rows, ["key", "values", "default", "meaning"], form, disable_numparse=True, maxcolwidths=widths)


def _tables(annotation: Any) -> Iterator[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for argument in get_args(annotation):
        yield from _tables(argument)


def _default(field: Schema) -> str:
    default = field.get("default")
    return "" if isinstance(default, dict) or field.get("default", "") is None else json.dumps(default)


def _values(field: Schema, whole: Schema) -> str:
    """What may be written, in words."""
    if "$ref" in field:
        return _values(whole["$defs"][field["$ref"].rpartition("/")[2]], whole)
    either = field.get("anyOf") or field.get("oneOf")
    if either:
        return " or ".join(dict.fromkeys(_values(one, whole) for one in either if one.get("type") != "null"))
    if "enum" in field or "const" in field:
        return ", ".join(json.dumps(value) for value in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return _array(field, whole)
    words = {"object": "table", "string": "text", "boolean": "true, false"}
    kind = str(field.get("type", "any"))
    bounds = [f"{sign} {field[bound]:,}" for bound, sign in _BOUNDS.items() if bound in field]
    return " ".join([words.get(kind, kind), " and ".join(bounds)]).strip()


def _array(field: Schema, whole: Schema) -> str:
    if "prefixItems" in field:
        return f"[{', '.join(_values(item, whole) for item in field['prefixItems'])}]"
    return f"list of: {_values(field.get('items', {}), whole)}"
