"""Market-1501: 1,501 people under six cameras of a campus."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from reid.datasets._base import Counts, DataSet, Dataset, DatasetConfig, DatasetInfo
from reid.datasets._counts import checked
from reid.datasets._listing import locate
from reid.datasets._market_form import FOLDERS, read_market_folder
from reid.datasets._splits import Splits, all_for_training, data_set

NAME = "market1501"
TEST = {"query": Counts(3_368, 750, 6), "gallery": Counts(15_913, 750, 6)}


class Config(DatasetConfig):
    """Table of Market-1501."""

    name: Literal["market1501"] = "market1501"
    train: Literal["train", "all"] = Field(
        "train", description="training images: the training split, or every image of a person in the set"
    )
    released_times: bool = Field(
        False, description="time stamps as QAConv's released code has them, which published TLift results depend on"
    )


class Market1501(Dataset):
    """Market-1501, with junk and distractors as roles.

    Source: Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015; time stamps as Liao and Shao,
    Interpretable and Generalizable Person Re-Identification with Query-Adaptive Convolution and Temporal Lifting,
    ECCV 2020. Differs from QAConv's released code, which adds the start of each sequence twice; the option
    ``released_times`` brings that back.
    """

    config: Config
    info = DatasetInfo(
        title="Market-1501",
        paper="Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015",
        licence="for academic research",
        where="the authors' project page, https://zheng-lab.cecs.anu.edu.au/Project/project_reid.html",
        tree=(
            "market1501/ (or Market-1501-v15.09.15/)\n"
            "  bounding_box_train/0002_c1s1_000451_03.jpg\n"
            "  query/0001_c1s1_001051_00.jpg\n"
            "  bounding_box_test/0000_c1s1_000151_01.jpg"
        ),
        counts={
            "": {
                "train": Counts(12_936, 751, 6),
                **TEST,
            },
            "all": {"train": Counts(29_419, 1_501, 6), **TEST},
        },
        note=(
            "bounding_box_test holds 19,732 files: 15,913 that are ranked (750 identities, and distractors named 0000) "
            "and 3,819 junk images named -1, which are removed from every ranking."
        ),
    )

    def load(self, data_root: Path) -> DataSet:
        """See :meth:`Dataset.load`."""
        folders = ("market1501", "Market-1501-v15.09.15", "Market-1501", "market")
        root = locate(NAME, self.config.root, data_root, folders, FOLDERS["train"])
        splits: Splits = read_market_folder(root, NAME, released_times=self.config.released_times)
        data = data_set(NAME, splits, root)
        if self.config.train == "all":
            data = data_set(NAME, all_for_training(splits), root, label=f"{NAME} (all)", variant="all")
        return checked(data, self)


COMPONENT = Market1501
