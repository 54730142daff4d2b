"""Images of one's own as rows: who is where in a tree of folders, or in a CSV file."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reid.config import nearest
from reid.datasets._base import SPLITS
from reid.datasets._listing import examples, image_files, is_litter, unreadable_names
from reid.errors import DatasetError
from reid.types import Role

NAME = "folder"
COLUMNS = ("path", "pid", "camid", "time_s", "split", "role")
ROLES: dict[str, Role] = {"person": "person", "distractor": "distractor", "junk": "junk"}


class Row(NamedTuple):
    """One image with identity and camera as text; ``pid`` is "" where the role is no person."""

    path: Path
    pid: str
    split: str = "train"
    camid: str = ""
    time_s: float | None = None
    role: Role = "person"


def read_tree(root: Path) -> Iterator[Row]:
    """Images of ``root/{train,query,gallery}/PID/`` or ``root/PID/``. Raises DatasetError at anything else there."""
    folders = _subfolders(root)
    if not {folder.name.lower() for folder in folders} & set(SPLITS):
        yield from _identities(folders)
        return
    strange = [folder.name for folder in folders if folder.name not in SPLITS]
    if strange:
        raise unreadable_names(NAME, root, strange, f"beside each other only {', '.join(SPLITS)}")
    for split in folders:
        yield from _identities(_subfolders(split), split.name)


def _identities(folders: Sequence[Path], split: str = "train") -> Iterator[Row]:
    for folder in folders:
        _refuse_junk(folder.name, f"folder {folder}")
        deeper = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not is_litter(entry.name))
        if deeper:
            raise unreadable_names(NAME, folder, deeper, "the images of one identity and no folders")
        paths = image_files(NAME, folder)
        if not paths:
            raise DatasetError(f"{NAME}: wanted images of an identity in {folder}, found none. Remove the folder.")
        yield from (Row(path, folder.name, split) for path in paths)


def _subfolders(folder: Path) -> list[Path]:
    entries = sorted(entry for entry in folder.iterdir() if not is_litter(entry.name))
    loose = [entry.name for entry in entries if not entry.is_dir()]
    if loose:
        raise unreadable_names(NAME, folder, loose, "one folder per identity and nothing beside")
    return entries


def read_table(path: Path) -> Iterator[Row]:
    """Images of a CSV file. Raises DatasetError with the lines that cannot be used, and why."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval="", strict=True)
            _check_columns(path, reader.fieldnames or ())
            lines = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{NAME}: {path} cannot be read as CSV ({error}). Save it as CSV in UTF-8.") from None
    problems = []
    for number, line in lines:
        row, problem = _row(line, path.parent)
        if row is not None:
            yield row
        else:
            problems.append(f"line {number}: {problem}")
    if problems:
        raise DatasetError(
            f"{NAME}: {path}: {len(problems):,} of {len(lines):,} lines cannot be used: {examples(problems)}. "
            "Correct or remove them."
        )


def _check_columns(path: Path, columns: Collection[str]) -> None:
    where = f"{NAME}: {path}, first line"
    for column in columns:
        if column not in COLUMNS:
            raise DatasetError(f"{where}: unknown column {column!r}. {nearest(column, COLUMNS)}")
    missing = [column for column in COLUMNS[:2] if column not in columns]
    if missing or len(set(columns)) < len(columns):
        raise DatasetError(
            f"{where}: wanted the columns path and pid, each column once, found {', '.join(columns) or 'nothing'}. "
            f"Optional are {', '.join(COLUMNS[2:])}."
        )


def _row(line: Mapping[str, str], folder: Path) -> tuple[Row | None, str]:
    """The row, or None and what is wrong with it."""
    values = {column: line.get(column, "").strip() for column in COLUMNS}
    path, role, split = folder / values["path"], ROLES.get(values["role"] or "person"), values["split"] or "train"
    time_s = _seconds(values["time_s"])
    problem = {
        "more values than columns": "" in line,
        f"no image file {path}": not path.is_file(),
        f"role {values['role']!r}, wanted {', '.join(ROLES)}": role is None,
        f"split {split!r}, wanted {', '.join(SPLITS)}": split not in SPLITS,
        f"time_s {values['time_s']!r}, wanted seconds": time_s is not None and not math.isfinite(time_s),
        "no pid; only distractors and junk may lack it": role == "person" and not values["pid"],
        "pid -1; junk is a role, not a person: set role to junk": role == "person" and values["pid"] == "-1",
    }
    wrong = next((text for text, holds in problem.items() if holds), "")
    if wrong or role is None:
        return None, wrong
    return Row(path, values["pid"] if role == "person" else "", split, values["camid"], time_s, role), ""


def _seconds(text: str) -> float | None:
    """The number; nan where ``text`` is none, None where there is no text."""
    try:
        return float(text) if text else None
    except ValueError:
        return math.nan


def _refuse_junk(pid: str, where: str) -> None:
    if pid == "-1":
        raise DatasetError(
            f"{NAME}: {where}: wanted an identity, found -1. Junk is a role: list the images in a CSV with role = junk."
        )
