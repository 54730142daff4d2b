"""Reading back what a run left as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from reid.config import Config, parse
from reid.errors import CheckpointError, ConfigError

StoredT = TypeVar("StoredT", bound=Config)


def read_stored(kind: type[StoredT], file: Path, version: int, command: str) -> StoredT:
    """Read a file that :func:`reid.files.write_json` wrote of a ``kind``.

    Args:
        kind: what it is; has a key ``schema_version``.
        file: where.
        version: the newest schema that is known.
        command: what makes the file, for the messages.

    Raises:
        CheckpointError: there is none, it cannot be read, it is damaged, or a newer reid wrote it.
    """
    table = _read_table(file, command)
    found = table.get("schema_version")
    if isinstance(found, int) and found > version:
        raise CheckpointError(
            f"{file}: wanted a results file of schema {version}, found {found}, which a newer reid wrote. Update reid."
        )
    try:
        return parse(kind, table, str(file))
    except ConfigError as error:
        raise CheckpointError(f"{error} The file is damaged or no results file; make it anew: {command}.") from None


def _read_table(file: Path, command: str) -> dict[str, Any]:
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{file}: wanted a results file, found none. Has the run finished? {command} makes it."
        ) from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror}).") from None
    except ValueError as error:
        raise CheckpointError(f"{file}: wanted JSON, found: {error}. Make it anew: {command}.") from None
    if not isinstance(table, dict):
        raise CheckpointError(f"{file}: wanted a JSON object, found a {type(table).__name__}. Make it anew: {command}.")
    return table
