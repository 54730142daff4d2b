"""Your own images: a tree with one folder per identity, or a CSV file."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from reid.config import nearest
from reid.datasets._base import SPLITS, DataSet, Dataset, DatasetConfig, DatasetInfo
from reid.datasets._counts import checked
from reid.datasets._listing import examples, image_files, is_litter, unreadable_names
from reid.datasets._splits import data_set
from reid.errors import DatasetError
from reid.types import ImageRecord, Role

NAME = "folder"
COLUMNS = ("path", "pid", "camid", "time_s", "split", "role")
_Numbering = Callable[[Collection[str]], Mapping[str, int]]
ROLES: dict[str, Role] = {"person": "person", "distractor": "distractor", "junk": "junk"}


class Config(DatasetConfig):
    """Table of a folder or CSV of one's own.

    ``root`` is required and may name a ``.csv`` file. ``label`` is by default root's name, and a name only.
    """

    name: Literal["folder"] = "folder"
    people: str | None = None  # roots with the same word show the same people by the same pids; None: none but itself


class _Row(NamedTuple):
    """One image with identity and camera as text; ``pid`` is "" where the role is no person."""

    path: Path
    pid: str
    split: str = "train"
    camid: str = ""
    time_s: float | None = None
    role: Role = "person"


class Folder(Dataset):
    """A tree or a CSV. Identity and camera may be any text; whole numbers keep their value.

    A tree is ``root/{train,query,gallery}/PID/*.jpg``, or ``root/PID/*.jpg``, all of it for training. A CSV has the
    columns ``path`` (relative to the CSV) and ``pid``, and may have ``camid``, ``time_s`` (seconds), ``split``
    (default train) and ``role`` (person, distractor, junk; only a person needs a pid). Without camera ids the
    same-camera rule cannot be applied.

    Which people may be the same as those of another set is told by its root, not by its label: a root opened twice, as
    a source and as a target, shows the same people, two roots show others unless ``people`` says otherwise.
    """

    config: Config
    info = DatasetInfo(
        title="A folder or CSV of your own",
        paper="none",
        licence="yours",
        where="on your disk; give its path as root",
        tree=(
            "root = a folder: train/PID/*.jpg, query/PID/*.jpg, gallery/PID/*.jpg\n"
            "                 or PID/*.jpg, all for training\n"
            "root = a .csv:   path,pid[,camid][,time_s][,split][,role]\n"
            "                 paths relative to the CSV; split is train (default), query or gallery;\n"
            "                 role is person (default), distractor or junk"
        ),
        counts=None,
        note="No camera ids are needed: without them the same-camera rule is off, and the result says so.",
    )

    def load(self, data_root: Path) -> DataSet:  # noqa: ARG002 - the set has no usual place
        """See :meth:`Dataset.load`."""
        root = self.config.root
        if root is None:
            raise DatasetError(f"{NAME}: wanted root = a folder or a .csv file, found no root. Add it, or use --root.")
        if not root.exists():
            raise DatasetError(f"{NAME}: wanted a folder or a .csv file, found nothing at root = {root}. Correct it.")
        rows = list(_tree(root) if root.is_dir() else _table(root))
        root, people = root.resolve(), self.config.people
        label = self.config.label or root.stem
        own = f"{root.stem}:{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"  # the name first: it gives an order
        splits = _records(rows, f"{NAME}:{people or own}", _numbers if people is None else _shared_numbers)
        _refuse_finding_itself(splits)
        splits["train"] = [record for record in splits["train"] if record.role == "person"]
        return checked(data_set(NAME, splits, root, label=f"{NAME} ({label})"), self)


def _tree(root: Path) -> Iterator[_Row]:
    folders = _subfolders(root)
    if not {folder.name.lower() for folder in folders} & set(SPLITS):
        yield from _identities(folders)
        return
    strange = [folder.name for folder in folders if folder.name not in SPLITS]
    if strange:
        raise unreadable_names(NAME, root, strange, f"beside each other only {', '.join(SPLITS)}")
    for split in folders:
        yield from _identities(_subfolders(split), split.name)


def _identities(folders: Sequence[Path], split: str = "train") -> Iterator[_Row]:
    for folder in folders:
        _refuse_junk(folder.name, f"folder {folder}")
        deeper = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not is_litter(entry.name))
        if deeper:
            raise unreadable_names(NAME, folder, deeper, "the images of one identity and no folders")
        paths = image_files(NAME, folder)
        if not paths:
            raise DatasetError(f"{NAME}: wanted images of an identity in {folder}, found none. Remove the folder.")
        yield from (_Row(path, folder.name, split) for path in paths)


def _subfolders(folder: Path) -> list[Path]:
    entries = sorted(entry for entry in folder.iterdir() if not is_litter(entry.name))
    loose = [entry.name for entry in entries if not entry.is_dir()]
    if loose:
        raise unreadable_names(NAME, folder, loose, "one folder per identity and nothing beside")
    return entries


def _table(path: Path) -> Iterator[_Row]:
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


def _row(line: Mapping[str, str], folder: Path) -> tuple[_Row | None, str]:
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
    return _Row(path, values["pid"] if role == "person" else "", split, values["camid"], time_s, role), ""


def _seconds(text: str) -> float | None:
    """The number; nan where ``text`` is none, None where there is no text."""
    try:
        return float(text) if text else None
    except ValueError:
        return math.nan


def _records(rows: list[_Row], source: str, number: _Numbering) -> dict[str, list[ImageRecord]]:
    pids = number({row.pid for row in rows} - {""})
    camids = _numbers({row.camid for row in rows} - {""})
    splits: dict[str, list[ImageRecord]] = {split: [] for split in SPLITS}
    for row in sorted(rows, key=lambda row: row.path):
        record = ImageRecord(row.path, pids.get(row.pid, -1), camids.get(row.camid), row.time_s, row.role, source)
        splits[row.split].append(record)
    return splits


def _numbers(texts: Collection[str]) -> Mapping[str, int]:
    """Whole numbers as they are; if any text is none, all are numbered in sorted order instead."""
    if all(text.isdecimal() for text in texts):
        return {text: int(text) for text in texts}
    return {text: number for number, text in enumerate(sorted(texts))}


def _shared_numbers(texts: Collection[str]) -> Mapping[str, int]:
    """Whole numbers as they are; other text by a digest, so that every set that shares people numbers them alike."""
    return {
        text: int(text) if text.isdecimal() else int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)
        for text in texts
    }


def _refuse_junk(pid: str, where: str) -> None:
    if pid == "-1":
        raise DatasetError(
            f"{NAME}: {where}: wanted an identity, found -1. Junk is a role: list the images in a CSV with role = junk."
        )


def _refuse_finding_itself(splits: Mapping[str, Sequence[ImageRecord]]) -> None:
    """Without camera ids nothing takes an image out of its own list."""
    gallery = {record.path.resolve() for record in splits["gallery"] if record.camid is None}
    both = [record.path for record in splits["query"] if record.camid is None and record.path.resolve() in gallery]
    if both:
        raise DatasetError(
            f"{NAME}: wanted queries that are not in the gallery as well, found {len(both):,} that are: "
            f"{examples([str(path) for path in both])}. Each would find itself. Remove one of them, or give camera ids."
        )


COMPONENT = Folder
