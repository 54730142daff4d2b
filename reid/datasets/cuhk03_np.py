"""CUHK03 under its new protocol (CUHK03-NP): 1,467 people, two cameras each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from reid.datasets._base import Counts, DataSet, Dataset, DatasetConfig, DatasetInfo
from reid.datasets._counts import checked
from reid.datasets._cuhk03_raw import PROTOCOL, RAW, convert
from reid.datasets._listing import find, locate
from reid.datasets._market_form import FOLDERS, read_market_folder
from reid.datasets._splits import Splits, all_for_training, data_set
from reid.errors import DatasetError

NAME = "cuhk03_np"
SET_FOLDERS = ("cuhk03_np", "cuhk03-np", "CUHK03-NP", "cuhk03")
RELEASE = "cuhk03_release"
DETECTED_TEST = {"query": Counts(1_400, 700, 2), "gallery": Counts(5_332, 700, 2)}
LABELED_TEST = {"query": Counts(1_400, 700, 2), "gallery": Counts(5_328, 700, 2)}


class Config(DatasetConfig):
    """Table of CUHK03-NP."""

    name: Literal["cuhk03_np"] = "cuhk03_np"
    variant: Literal["detected", "labeled"] = Field(
        "detected", description="boxes by a detector, as published cross-domain tables use, or drawn by hand"
    )
    train: Literal["train", "all"] = Field(
        "train", description="training images: the training split, or every image of the set"
    )


class CUHK03NP(Dataset):
    """CUHK03-NP, from the folder form or converted once from the raw HDF5 file.

    Source: Li et al., DeepReID: Deep Filter Pairing Neural Network for Person Re-Identification, CVPR 2014; splits of
    Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017.
    """

    config: Config
    info = DatasetInfo(
        title="CUHK03-NP",
        paper=(
            "Li et al., DeepReID: Deep Filter Pairing Neural Network for Person Re-Identification, CVPR 2014; new "
            "protocol: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017"
        ),
        licence="for academic research",
        where="the new protocol's repository, https://github.com/zhunzhong07/person-re-ranking",
        tree=(
            "cuhk03_np/ (png or jpg)\n"
            "  detected/bounding_box_train/0003_c1_1.png (or cuhk03_np_detected/...)\n"
            "  detected/query/0001_c1_1.png\n"
            "  detected/bounding_box_test/0001_c2_7.png\n"
            "  labeled/ likewise (or cuhk03_np_labeled/...)\n"
            "or the raw files, converted on first use:\n"
            "  cuhk-03.mat (or cuhk03_release/cuhk-03.mat)\n"
            "  cuhk03_new_protocol_config_detected.mat, cuhk03_new_protocol_config_labeled.mat"
        ),
        counts={
            "detected": {"train": Counts(7_365, 767, 2), **DETECTED_TEST},
            "labeled": {"train": Counts(7_368, 767, 2), **LABELED_TEST},
            "detected, all": {"train": Counts(14_097, 1_467, 2), **DETECTED_TEST},
            "labeled, all": {"train": Counts(14_096, 1_467, 2), **LABELED_TEST},
        },
        note="Published cross-domain tables use the detected boxes. The five camera pairs count as one pair.",
    )

    def load(self, data_root: Path) -> DataSet:
        """See :meth:`Dataset.load`. May write the converted folder; raises StorageError if it cannot."""
        variant = self.config.variant
        folders = [f"{folder}/{variant}" for folder in SET_FOLDERS] + [f"{NAME}_{variant}", variant]
        if find(self.config.root, data_root, folders, FOLDERS["train"]) is None:
            self._convert_raw(data_root)
        root = locate(NAME, self.config.root, data_root, folders, FOLDERS["train"])
        splits: Splits = read_market_folder(root, NAME)
        if self.config.train == "all":
            splits = all_for_training(splits)
        counted = f"{variant}, all" if self.config.train == "all" else variant
        data = data_set(NAME, splits, root, label=f"{NAME} ({counted})", variant=counted)
        return checked(data, self)

    def _convert_raw(self, data_root: Path) -> None:
        """Write the folder form beside the raw file, where there is one."""
        variant, protocol = self.config.variant, PROTOCOL.format(variant=self.config.variant)
        bases = [self.config.root] if self.config.root else [data_root / folder for folder in SET_FOLDERS]
        raw = next((raw for base in bases for raw in (base / RAW, base / RELEASE / RAW) if raw.is_file()), None)
        if raw is None:
            return
        base = raw.parent.parent if raw.parent.name == RELEASE else raw.parent
        protocols = [folder / protocol for folder in (base, raw.parent) if (folder / protocol).is_file()]
        if not protocols:
            raise DatasetError(
                f"{NAME}: wanted {protocol} beside {raw}, found only the latter. It is part of the new protocol's "
                "repository, see datasets/README.md."
            )
        folder = base / variant
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DatasetError(
                f"{NAME}: wanted {FOLDERS['train']} in {folder}, or no such folder, to convert {raw.name} into, found "
                "something else there. Move it away, or name the set's root."
            )
        convert(raw, protocols[0], variant, folder, self.progress)


COMPONENT = CUHK03NP
