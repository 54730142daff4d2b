"""synthped: pedestrians that are drawn on first use; the embedded default data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reid.datasets._base import SPLITS, Counts, DataSet, Dataset, DatasetConfig, DatasetInfo
from reid.datasets._counts import checked
from reid.datasets._market_form import read_market_folder
from reid.datasets.synthped._config import Config
from reid.datasets.synthped.parts import PARTS
from reid.datasets.synthped.photograph import Photographs
from reid.datasets.synthped.writer import draw_set, render
from reid.errors import DatasetError
from reid.files import atomic_folder, write_json

__all__ = ["COMPONENT", "INFO", "PARTS", "Config", "Photographs", "Synthped", "people_of", "render"]

NAME = "synthped"
RENDERER = 3
"""Raised whenever the same table would give other images."""
STAMP = "synthped.json"


INFO = DatasetInfo(
    title="synthped",
    paper="ours: pedestrians drawn by reid's own renderer, reid/datasets/synthped",
    licence="MIT",
    where="comes with reid: drawn on first use, nothing to download",
    tree="synthped/studio-1a2b3c4d/  (made by reid)\n  bounding_box_train/  query/  bounding_box_test/",
    counts=None,
    note="Three domains: studio (bright, for training), street, mall (dim).",
    counts_from=f"those its table asks for; what was drawn is written into {STAMP} and compared when the set is opened",
)


class Synthped(Dataset):
    """Pedestrians drawn by our own renderer, in the Market-1501 form.

    The first :meth:`load` draws the images (about 100 a second) into ``synthped/<domain>-<key>`` under the data root,
    the key being made of the table; later ones read them. A folder that was drawn by another version of the renderer
    is drawn again. With ``root`` the images are drawn there, and a folder that holds something else is refused.
    """

    config: Config
    info = INFO
    fix = "Remove the folder, and it is drawn again"

    def load(self, data_root: Path) -> DataSet:
        """Draw the set if it is not there yet, and open it. See :meth:`Dataset.load`.

        Raises:
            DatasetError: images are missing, or ``root`` holds something else.
            StorageError: the folder cannot be written.
        """
        folder = self.config.root or data_root / NAME / f"{self.config.domain}-{_key(self.config)}"
        if self._stamp(folder) is None:
            self._draw(folder)
        splits = read_market_folder(folder, people_of(self.config))
        train, query, gallery = (splits[split] for split in SPLITS)
        data = DataSet(NAME, f"{NAME} ({self.config.domain})", train, query, gallery, False, root=folder)
        return checked(data, self)

    def expected(self, data: DataSet) -> Mapping[str, Counts] | None:
        """The images that were drawn, junk left out; see :meth:`Dataset.expected`."""
        stamp = None if data.root is None else self._stamp(data.root)
        if stamp is None:
            return None
        junk = {"gallery": self.config.num_junk}
        return {split: Counts(drawn - junk.get(split, 0)) for split, drawn in stamp["counts"].items()}

    def _stamp(self, folder: Path) -> dict[str, Any] | None:
        """What the folder says about itself, or None where it is to be drawn."""
        if not folder.exists():
            return None
        if not folder.is_dir():
            raise DatasetError(f"{NAME}: wanted a folder at root = {folder}, found a file. Name another.")
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

    def _draw(self, folder: Path) -> None:
        with atomic_folder(folder) as temporary:
            counts = draw_set(self.config, temporary, self.progress)
            write_json(temporary / STAMP, {"renderer": RENDERER, "table": _table(self.config), "counts": counts})


def people_of(config: Config) -> str:
    """``source`` of the images: whose people they show. Each domain and each seed has its own."""
    return f"{NAME}-{config.domain}-{config.seed}"


def _table(config: Config) -> dict[str, Any]:
    """What the images depend on."""
    return config.model_dump(mode="json", exclude={"name", *DatasetConfig.model_fields})


def _key(config: Config) -> str:
    return hashlib.sha256(json.dumps(_table(config), sort_keys=True).encode()).hexdigest()[:8]


COMPONENT = Synthped
