"""From records by split to an opened data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from reid.datasets._base import SPLITS, DataSet
from reid.types import ImageRecord

Splits = Mapping[str, Sequence[ImageRecord]]
"""``train``, ``query`` and ``gallery`` -> records; a split that is missing is empty."""


def data_set(name: str, splits: Splits, root: Path, *, label: str = "", variant: str = "") -> DataSet:
    """The data set of these records, counts unchecked; ``label`` defaults to ``name``."""
    train, query, gallery = (splits.get(split, ()) for split in SPLITS)
    return DataSet(name, label or name, train, query, gallery, counts_checked=False, variant=variant, root=root)


def all_for_training(splits: Splits) -> Splits:
    """``splits`` with the persons of all of them, sorted by path, as ``train``; query and gallery stay as they are."""
    persons = [record for split in SPLITS for record in splits[split] if record.role == "person"]
    return {**splits, "train": sorted(persons, key=lambda record: record.path)}
