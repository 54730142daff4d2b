"""RandPerson: 8,000 rendered characters in eleven scenes; for training only."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from reid.datasets._base import Counts, DataSet, Dataset, DatasetConfig, DatasetInfo
from reid.datasets._counts import checked
from reid.datasets._listing import locate, unreadable_names
from reid.datasets._splits import data_set
from reid.datasets._synthetic_form import FRAMES_PER_S, SyntheticName, read_synthetic_names
from reid.types import ImageRecord

NAME = "randperson"
SUBSET = "randperson_subset"
FIRST_CAMERA = (0, 2, 4, 6, 8, 9, 10, 12, 13, 14, 15)
"""Scene -> number of its first camera."""
FIRST_FRAME = (0, 160_000, 340_000, 490_000, 640_000, 1_070_000, 1_330_000, 1_590_000, 1_890_000, 3_190_000, 3_490_000)
"""Scene -> frame of the common clock at which it begins."""


class Config(DatasetConfig):
    """Table of RandPerson."""

    name: Literal["randperson"] = "randperson"


class RandPerson(Dataset):
    """The published subset of RandPerson; query and gallery are empty.

    Source: Wang, Liao and Shao, Surpassing Real-World Source Training Data: Random 3D Characters for Generalizable
    Person Re-Identification, ACM MM 2020; cameras and clock as QAConv's released code numbers them.
    """

    config: Config
    info = DatasetInfo(
        title="RandPerson",
        paper=(
            "Wang, Liao and Shao, Surpassing Real-World Source Training Data: Random 3D Characters for "
            "Generalizable Person Re-Identification, ACM MM 2020"
        ),
        licence="none stated; ask the authors",
        where="the authors' repository, https://github.com/VideoObjectSearch/RandPerson",
        tree="randperson/\n  randperson_subset/000000_s00_c00_f000228.jpg",
        counts={"": {"train": Counts(132_145, 8_000, 19)}},
        note="For training only. This is the subset that the papers train on; the whole set has 1,801,816 images.",
    )

    def load(self, data_root: Path) -> DataSet:
        """See :meth:`Dataset.load`; ``root`` may also name the folder of the images itself."""
        root = self.config.root
        if root is None or root.name != SUBSET:
            root = locate(NAME, root, data_root, ("randperson", "RandPerson"), SUBSET) / SUBSET
        names = read_synthetic_names(NAME, root)
        strange = [name.path.name for name in names if name.scene >= len(FIRST_CAMERA) or name.pid < 0]
        if strange:
            raise unreadable_names(NAME, root, strange, f"identities from 0 and scenes s00 to s{len(FIRST_CAMERA) - 1}")
        splits = {"train": [_record(name) for name in names]}
        return checked(data_set(NAME, splits, root), self)


def _record(name: SyntheticName) -> ImageRecord:
    time_s = (name.frame + FIRST_FRAME[name.scene]) / FRAMES_PER_S
    return ImageRecord(name.path, name.pid, FIRST_CAMERA[name.scene] + name.camera, time_s, source=NAME)


COMPONENT = RandPerson
