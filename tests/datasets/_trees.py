"""Small trees of files for the data set tests."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from reid.types import ImageRecord

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "loaders.json").read_text())


def touch(root: Path, names: Iterable[str]) -> Path:
    """Make empty files, with their folders; returns ``root``."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def rows(records: Sequence[ImageRecord], root: Path | None = None) -> list[tuple[object, ...]]:
    """(name, pid, camid, time) of each record; the name is the path below ``root``, or the file's own."""
    return [
        (
            record.path.name if root is None else record.path.relative_to(root).as_posix(),
            record.pid,
            record.camid,
            record.time_s,
        )
        for record in records
    ]
