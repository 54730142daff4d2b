"""What every data set file offers: a Config, an INFO, and a class that loads a tree of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from reid.config import Config
from reid.progress import Progress, Silent
from reid.types import ImageRecord

SPLITS = ("train", "query", "gallery")


class DatasetConfig(Config):
    """Keys every data set's table accepts, besides its own."""

    root: Path | None = Field(None, description="the set's own folder; default: a known name under the data root")
    label: str | None = Field(None, description="name in results, such as of a subset; default: the set's own")
    expected_counts: Literal["published", "none"] = Field(
        "published", description="'none' opens a subset or a changed copy, and the result says 'counts unchecked'"
    )


@dataclass(frozen=True, slots=True)
class Counts:
    """Images, identities and cameras of one split; None where the source does not tell.

    ``images`` counts what is kept: persons and distractors, without junk.
    """

    images: int
    pids: int | None = None
    cams: int | None = None


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What is known about a data set before opening it; ``datasets/README.md`` is generated from these.

    Attributes:
        title: the name people use.
        paper: authors, title, venue and year.
        licence: the terms, in a few words.
        where: where to ask for it.
        tree: the expected folders under the data root, a few lines.
        counts: variant (such as ``detected``; ``""`` where there is one only) -> split -> counts; None where
            none are known beforehand.
        counts_from: where the counts come from then; "" where there are none, which results state.
        note: anything a user must know, one or two sentences.
    """

    title: str
    paper: str
    licence: str
    where: str
    tree: str
    counts: Mapping[str, Mapping[str, Counts]] | None
    note: str = ""
    counts_from: str = ""


@dataclass(frozen=True, slots=True)
class DataSet:
    """The images of one opened data set. Each split is sorted and may be empty (training-only sets have no query).

    Attributes:
        name: component name, such as ``market1501``.
        label: name with its variant, as results print it, such as ``msmt17 (with val)``.
        train, query, gallery: the images; ``gallery`` holds distractors and junk too, by role.
        counts_checked: whether the counts were compared with the expected ones and agreed.
        variant: key into ``info.counts``, such as ``detected``; ``""`` where there is one variant only.
        root: the folder the images were read from.
    """

    name: str
    label: str
    train: Sequence[ImageRecord]
    query: Sequence[ImageRecord]
    gallery: Sequence[ImageRecord]
    counts_checked: bool
    variant: str = ""
    root: Path | None = None

    def split(self, name: str) -> Sequence[ImageRecord]:
        """The records of ``train``, ``query`` or ``gallery``."""
        return {"train": self.train, "query": self.query, "gallery": self.gallery}[name]


class Dataset(ABC):
    """A data set that can be opened. The file's last line is ``COMPONENT = TheClass``.

    Args:
        config: its table, an instance of the file's ``Config``.
        progress: where drawing or converting images on first use reports to.
    """

    info: ClassVar[DatasetInfo]
    fix: ClassVar[str] = "Unpack the data set again and compare with datasets/README.md"
    """What to do where the counts differ, a sentence without its full stop."""

    def __init__(self, config: DatasetConfig, progress: Progress | None = None) -> None:
        self.config = config
        self.progress = progress or Silent()

    @abstractmethod
    def load(self, data_root: Path) -> DataSet:
        """Open the set.

        Args:
            data_root: folder that holds the data sets, used where the config names no root of its own.

        Raises:
            DatasetError: the folder or a part of it is missing, a name cannot be read, or the counts differ.
        """

    def expected(self, data: DataSet) -> Mapping[str, Counts] | None:
        """The counts, by split, that ``data`` as opened by :meth:`load` should have; None where nobody knows them."""
        return (self.info.counts or {}).get(data.variant)


def count(records: Sequence[ImageRecord]) -> Counts:
    """Count a split as :class:`Counts` defines it."""
    kept = [record for record in records if record.role != "junk"]
    pids = {record.pid for record in kept if record.role == "person"}
    cams = {record.camid for record in kept}
    return Counts(len(kept), len(pids), None if None in cams else len(cams))
