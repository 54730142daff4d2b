"""ClonedPerson: 5,621 rendered characters that wear the clothes of real people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from reid.datasets._base import DataSet, Dataset, DatasetConfig, DatasetInfo
from reid.datasets._counts import checked
from reid.datasets._listing import locate
from reid.datasets._splits import data_set
from reid.datasets._synthetic_form import FRAMES_PER_S, SyntheticName, read_synthetic_names
from reid.types import ImageRecord

NAME = "clonedperson"
FOLDERS = {"train": "train", "query": "test/query", "gallery": "test/gallery"}


class Config(DatasetConfig):
    """Table of ClonedPerson."""

    name: Literal["clonedperson"] = "clonedperson"
    released_cameras: bool = Field(
        False, description="cameras as QAConv's released code has them: the same number in every scene"
    )


class ClonedPerson(Dataset):
    """ClonedPerson. A camera is a (scene, camera) pair, numbered from 0 in sorted order over all splits.

    Source: Wang, Liang and Liao, Cloning Outfits from Real-World Images to 3D Characters for Generalizable Person
    Re-Identification, CVPR 2022. Differs from QAConv's released code, which takes every image for one of scene 2, so
    that cameras of different scenes share a number and the same-camera rule removes true matches; the option
    ``released_cameras`` brings that back. Times are frames of the scene's own recording at 24 a second.
    """

    config: Config
    info = DatasetInfo(
        title="ClonedPerson",
        paper=(
            "Wang, Liang and Liao, Cloning Outfits from Real-World Images to 3D Characters for Generalizable "
            "Person Re-Identification, CVPR 2022"
        ),
        licence="none stated; ask the authors",
        where="the authors' repository, https://github.com/Yanan-Wang-cs/ClonedPerson",
        tree=(
            "clonedperson/\n"
            "  train/700000_s02_c00_f023389.jpg\n"
            "  test/query/705227_s02_c02_f001117.jpg\n"
            "  test/gallery/705228_s06_c02_f005521.jpg"
        ),
        counts=None,
        note=(
            "Published is the total (887,766 images of 5,621 identities under 24 cameras), not the counts of the "
            "splits, so results say that the counts were not checked."
        ),
    )

    def load(self, data_root: Path) -> DataSet:
        """See :meth:`Dataset.load`."""
        root = locate(NAME, self.config.root, data_root, ("clonedperson", "ClonedPerson"), FOLDERS["gallery"])
        names = {split: read_synthetic_names(NAME, root / folder) for split, folder in FOLDERS.items()}
        camids = _camids((name for split in names.values() for name in split), released=self.config.released_cameras)
        splits = {split: [_record(name, camids) for name in names[split]] for split in names}
        splits["train"] = [record for record in splits["train"] if record.role == "person"]
        return checked(data_set(NAME, splits, root), self)


def _camids(names: Iterable[SyntheticName], *, released: bool) -> Mapping[tuple[int, int], int]:
    pairs = sorted({(name.scene, name.camera) for name in names})
    return {pair: pair[1] if released else index for index, pair in enumerate(pairs)}


def _record(name: SyntheticName, camids: Mapping[tuple[int, int], int]) -> ImageRecord:
    role: Literal["junk", "person"] = "junk" if name.pid < 0 else "person"
    camid = camids[name.scene, name.camera]
    return ImageRecord(name.path, name.pid, camid, name.frame / FRAMES_PER_S, role, NAME)


COMPONENT = ClonedPerson
