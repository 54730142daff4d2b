"""Your own images: a tree with one folder per identity, or a CSV file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from reid.datasets._base import SPLITS, DataSet, Dataset, DatasetConfig, DatasetInfo
from reid.datasets._counts import checked
from reid.datasets._listing import examples
from reid.datasets._own_images import NAME, Row, read_table, read_tree
from reid.datasets._splits import data_set
from reid.errors import DatasetError
from reid.types import ImageRecord

_Numbering = Callable[[Collection[str]], Mapping[str, int]]


class Config(DatasetConfig):
    """Table of a folder or CSV of one's own.

    ``root`` is required and may name a ``.csv`` file. ``label`` is by default root's name, and a name only.
    """

    name: Literal["folder"] = "folder"
    people: str | None = Field(
        None, description="roots with the same word show the same people by the same pids; None: none but itself"
    )


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
        rows = list(read_tree(root) if root.is_dir() else read_table(root))
        root, people = root.resolve(), self.config.people
        label = self.config.label or root.stem
        own = f"{root.stem}:{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"  # the name first: it gives an order
        splits = _records(rows, f"{NAME}:{people or own}", _numbers if people is None else _shared_numbers)
        _refuse_finding_itself(splits)
        splits["train"] = [record for record in splits["train"] if record.role == "person"]
        return checked(data_set(NAME, splits, root, label=f"{NAME} ({label})"), self)


def _records(rows: list[Row], source: str, number: _Numbering) -> dict[str, list[ImageRecord]]:
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
