"""synthped: pedestrians that are drawn on first use; the embedded default data set."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from reid.datasets._base import SPLITS, DataSet, Dataset, DatasetConfig, DatasetInfo
from reid.datasets._market_form import read_market_folder
from reid.datasets.synthped.parts import PARTS
from reid.datasets.synthped.photograph import Photographs
from reid.datasets.synthped.writer import draw_set, render
from reid.errors import DatasetError
from reid.files import atomic_folder, write_json

__all__ = ["COMPONENT", "INFO", "PARTS", "Config", "Photographs", "Synthped", "render"]

NAME = "synthped"
RENDERER = 2
"""Raised whenever the same table would give other images."""
STAMP = "synthped.json"


class Config(DatasetConfig):
    """Table of synthped. All counts are ours to choose; an identity looks the same whatever they are."""

    name: Literal["synthped"] = "synthped"
    domain: Literal["studio", "street", "mall"] = Field("studio", description="the place; they differ as real sets do")
    num_train_pids: NonNegativeInt = Field(
        200, description="identities to train on; 200 are enough for a demonstration"
    )
    num_test_pids: NonNegativeInt = Field(100, description="identities in query and gallery")
    num_cameras: int = Field(4, ge=2, le=99, description="cameras; each person passes all of them or all but one")
    images_per_camera: PositiveInt = Field(4, description="images of a person in one camera")
    queries_per_pid: PositiveInt = Field(2, description="query images of a test identity, each in another camera")
    num_distractors: NonNegativeInt = Field(150, description="strangers and false detections in the gallery")
    num_junk: NonNegativeInt = Field(50, description="badly placed boxes, removed from every ranking")
    image_height: int = Field(128, ge=32, le=1024, description="pixels")
    image_width: int = Field(64, ge=16, le=512, description="pixels")
    seed: NonNegativeInt = Field(0, description="draws people, cameras and images")

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image_height, self.image_width


INFO = DatasetInfo(
    title="synthped",
    paper="ours: pedestrians drawn by reid's own renderer, reid/datasets/synthped",
    licence="MIT",
    where="comes with reid: drawn on first use, nothing to download",
    tree="synthped/studio-1a2b3c4d/  (made by reid)\n  bounding_box_train/  query/  bounding_box_test/",
    counts=None,
    note="Three domains: studio (bright, for training), street, mall (dim). Its counts are those of its table.",
)


class Synthped(Dataset):
    """Pedestrians drawn by our own renderer, in the Market-1501 form.

    The first :meth:`load` draws the images (about 150 a second) into ``synthped/<domain>-<key>`` under the data root,
    the key being made of the table; later ones read them. A folder that was drawn by another version of the renderer
    is drawn again. With ``root`` the images are drawn there, and a folder that holds something else is refused.
    """

    config: Config
    info = INFO

    def load(self, data_root: Path) -> DataSet:
        """Draw the set if it is not there yet, and open it. See :meth:`Dataset.load`.

        Raises:
            DatasetError: images are missing, or ``root`` holds something else.
            StorageError: the folder cannot be written.
        """
        folder = self.config.root or data_root / NAME / f"{self.config.domain}-{_key(self.config)}"
        stamp = self._stamp(folder) or self._draw(folder)
        splits = read_market_folder(folder, f"{NAME}-{self.config.domain}-{self.config.seed}")  # people of their own
        train, query, gallery = (splits[split] for split in SPLITS)
        data = DataSet(NAME, f"{NAME} ({self.config.domain})", train, query, gallery, False, root=folder)
        return self._checked(data, stamp["counts"])

    def _stamp(self, folder: Path) -> dict[str, Any] | None:
        """What the folder says about itself, or None where it is to be drawn."""
        if not folder.exists():
            return None
        try:
            stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            stamp = None
        if isinstance(stamp, dict) and stamp.get("table") == _table(self.config) and stamp.get("renderer") == RENDERER:
            return stamp
        if self.config.root is not None and any(folder.iterdir()):
            raise DatasetError(
                f"{NAME}: wanted in root = {folder} the images of this very table, drawn by renderer {RENDERER}, found "
                f"something else ({STAMP} is missing or differs). Name an empty folder, or no root, to have them drawn."
            )
        return None

    def _draw(self, folder: Path) -> dict[str, Any]:
        with atomic_folder(folder) as temporary:
            counts = draw_set(self.config, temporary, self.progress)
            stamp = {"renderer": RENDERER, "table": _table(self.config), "counts": counts}
            write_json(temporary / STAMP, stamp)
        return stamp

    def _checked(self, data: DataSet, drawn: Mapping[str, int]) -> DataSet:
        if self.config.expected_counts == "none":
            return data
        found = {split: len(data.split(split)) for split in SPLITS}
        if found != drawn:
            raise DatasetError(
                f"{data.label} in {data.root}: wanted the images that were drawn, {drawn}, found {found}. "
                "Remove the folder, and it is drawn again."
            )
        return dataclasses.replace(data, counts_checked=True)


def _table(config: Config) -> dict[str, Any]:
    """What the images depend on."""
    return config.model_dump(mode="json", exclude={"name", *DatasetConfig.model_fields})


def _key(config: Config) -> str:
    return hashlib.sha256(json.dumps(_table(config), sort_keys=True).encode()).hexdigest()[:8]


COMPONENT = Synthped
