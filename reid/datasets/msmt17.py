"""MSMT17: 4,101 people under fifteen cameras, in V1 and V2 (faces masked) form."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from reid.datasets._base import Counts, DataSet, Dataset, DatasetConfig, DatasetInfo
from reid.datasets._counts import checked
from reid.datasets._listing import examples, locate
from reid.datasets._splits import Splits, all_for_training, data_set
from reid.errors import DatasetError
from reid.types import ImageRecord

NAME = "msmt17"
LABELS = {"train+val": "with val", "train": "without val", "all": "all"}
MASKED = "mask_train_v2"
TEST = {"query": Counts(11_659, 3_060, 15), "gallery": Counts(82_161, 3_060, 15)}

_LINE = re.compile(r"(\S*?\d+_\d+_(\d+)_\S+)\s+(\d+)")


class Config(DatasetConfig):
    """Table of MSMT17."""

    name: Literal["msmt17"] = "msmt17"
    train: Literal["train+val", "train", "all"] = Field(
        "train+val",
        description="training images: with val as QAConv and TransMatcher, without it, or every image of the set",
    )


class _Entry(NamedTuple):
    path: str
    pid: int
    camid: int


class MSMT17(Dataset):
    """MSMT17. Test identities are numbered after the training ones, so that a number means one person.

    Source: Wei et al., Person Transfer GAN to Bridge Domain Gap for Person Re-Identification, CVPR 2018. Differs
    from QAConv's released code, which renumbers test identities only when it trains on all images.
    """

    config: Config
    info = DatasetInfo(
        title="MSMT17",
        paper="Wei et al., Person Transfer GAN to Bridge Domain Gap for Person Re-Identification, CVPR 2018",
        licence="for academic research, after signing the authors' agreement",
        where="the authors' page, https://www.pkuvmc.com/dataset.html",
        tree=(
            "msmt17/ (or MSMT17_V1/, MSMT17_V2/)\n"
            "  list_train.txt, list_val.txt, list_query.txt, list_gallery.txt\n"
            "  train/0000/0000_000_01_0303morning_0008_0.jpg (V2: mask_train_v2/...)\n"
            "  test/0000/0000_006_07_0303morning_0020_0.jpg (V2: mask_test_v2/...)"
        ),
        counts={
            "train+val": {"train": Counts(32_621, 1_041, 15), **TEST},
            "train": {"train": Counts(30_248, 1_041, 15), **TEST},
            "all": {"train": Counts(126_441, 4_101, 15), **TEST},
        },
        note=(
            "QAConv and TransMatcher train with val (train = 'train+val', our default); others do not. With "
            "train = 'all' its own test images are trained on, so it can no longer be a target. Published numbers are "
            "of V1 as a rule; results on V2, whose faces are masked, say so."
        ),
    )

    def load(self, data_root: Path) -> DataSet:
        """See :meth:`Dataset.load`."""
        folders = ("msmt17", "MSMT17", "MSMT17_V1", "MSMT17_V2", "msmt")
        root = locate(NAME, self.config.root, data_root, folders, "list_train.txt")
        train_folder = _image_folder(root, "train", MASKED)
        test_folder = _image_folder(root, "test", "mask_test_v2")
        train, val = (_read_list(root / f"list_{split}.txt", train_folder) for split in ("train", "val"))
        query, gallery = (_read_list(root / f"list_{split}.txt", test_folder) for split in ("query", "gallery"))
        offset = 1 + max((entry.pid for entry in (*train, *val)), default=-1)
        splits: Splits = {
            "train": _records(train + val if self.config.train != "train" else train, train_folder, 0),
            "query": _records(query, test_folder, offset),
            "gallery": _records(gallery, test_folder, offset),
        }
        if self.config.train == "all":
            splits = all_for_training(splits)
        variant = self.config.train
        version = f"{NAME} V2" if train_folder.name == MASKED else NAME
        data = data_set(NAME, splits, root, label=f"{version} ({LABELS[variant]})", variant=variant)
        return checked(data, self)


def _image_folder(root: Path, *names: str) -> Path:
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise DatasetError(
        f"{NAME}: wanted a folder {' or '.join(names)} in {root}, found neither. Unpack the images beside the lists."
    )


def _read_list(path: Path, folder: Path) -> list[_Entry]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DatasetError(
            f"{NAME}: {path} cannot be read ({reason}). All four lists of the release are needed, as they are."
        ) from None
    matches = [_LINE.fullmatch(line.strip()) for line in lines]
    for number, (line, match) in enumerate(zip(lines, matches, strict=True), start=1):
        if match is None and line.strip():
            raise DatasetError(
                f"{NAME}: {path}, line {number}: wanted 'FOLDER/PID_IMAGE_CAMERA_TIME.jpg PID', found {line!r}. "
                "Take the list from the release again."
            )
    entries = [_Entry(match[1], int(match[3]), int(match[2]) - 1) for match in matches if match is not None]
    _refuse_missing(path, folder, entries)
    return sorted(entries)


def _refuse_missing(path: Path, folder: Path, entries: list[_Entry]) -> None:
    # One listing per identity folder: asking for 126,441 files one by one takes minutes on a network drive.
    present: dict[str, frozenset[str]] = {}
    missing = []
    for entry in entries:
        parent, _, file = entry.path.rpartition("/")
        if parent not in present:
            present[parent] = _file_names(folder / parent)
        if file not in present[parent]:
            missing.append(entry.path)
    if missing:
        raise DatasetError(
            f"{NAME}: wanted the {len(entries):,} images of {path} in {folder}, found {len(missing):,} missing: "
            f"{examples(missing)}. Likely an incomplete unpacking or copy, or images of the other version (V1, V2): "
            "unpack again."
        )


def _file_names(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as files:
            return frozenset(file.name for file in files)
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def _records(entries: list[_Entry], folder: Path, offset: int) -> list[ImageRecord]:
    return [ImageRecord(folder / entry.path, entry.pid + offset, entry.camid, source=NAME) for entry in sorted(entries)]


COMPONENT = MSMT17
