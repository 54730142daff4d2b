"""What ``reid data check`` finds out about a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from PIL import Image
from tabulate import tabulate

from reid.datasets._base import SPLITS, DataSet, Dataset, DatasetConfig
from reid.datasets._counts import CountRow, count_rows, difference, likely_cause, what_to_do
from reid.datasets._listing import examples
from reid.errors import ImageError
from reid.images import read_image
from reid.progress import Progress, Silent
from reid.types import ImageRecord


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, why that is likely so, and what to do."""

    what: str
    cause: str
    fix: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The outcome of a check.

    Attributes:
        data: the data set as it was opened, counts unchecked.
        rows: counts per split, expected and found.
        problems: what must be put right.
        notes: what is worth knowing and no fault.
    """

    data: DataSet
    rows: tuple[CountRow, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def text(self) -> str:
        """The report as lines for a terminal."""
        table = [
            (row.split, quantity, _shown(wanted), _shown(found), _verdict(wanted, found))
            for row in self.rows
            for quantity, wanted, found in row.quantities()
        ]
        lines = [f"{self.data.label} in {self.data.root}", ""]
        lines += [
            tabulate(table, ["split", "quantity", "wanted", "found", "ok"], colalign=("left", "left", *["right"] * 3))
        ]
        for fix, problems in groupby(self.problems, key=lambda problem: problem.fix):
            for problem in problems:
                lines += ["", f"Problem: {problem.what}.", f"  Likely cause: {problem.cause}."]
            lines += ["", f"What to do: {fix}"]
        lines += ["", *(f"Note: {note}" for note in self.notes)] if self.notes else []
        return "\n".join([*lines, "", "Everything as it should be." if self.ok else f"Problems: {len(self.problems)}."])


def check(
    dataset_class: Callable[[DatasetConfig, Progress], Dataset],
    config: DatasetConfig,
    data_root: Path,
    *,
    deep: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Open a data set whatever its counts, and compare it with what is known about it.

    Args:
        dataset_class: the component's class.
        config: its table; with ``expected_counts = "none"`` the counts are shown, not compared.
        data_root: folder that holds the data sets.
        deep: also decode every image.
        progress: where drawing, converting and decoding report to.

    Returns:
        The report; wrong counts and unreadable images are problems in it.

    Raises:
        DatasetError: the data set cannot be opened at all.
    """
    progress = progress or Silent()
    dataset = dataset_class(config.model_copy(update={"expected_counts": "none"}), progress)
    data = dataset.load(data_root)
    rows = count_rows(data, dataset)
    if config.expected_counts == "none":
        rows = tuple(CountRow(row.split, None, row.found) for row in rows)
    fix = what_to_do(dataset)
    problems = [Problem(difference(row), likely_cause(row, data, dataset.info), fix) for row in rows if not row.agrees]
    if deep:
        problems += _unreadable_images(data, progress)
    return CheckReport(data, rows, tuple(problems), tuple(_notes(data, rows)))


def _shown(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _verdict(wanted: int | None, found: int | None) -> str:
    return "-" if wanted is None else "yes" if wanted == found else "NO"


def _notes(data: DataSet, rows: Iterable[CountRow]) -> Iterable[str]:
    if all(row.wanted is None for row in rows):
        yield "No counts were compared; results on this set say 'counts unchecked'."
    for split in SPLITS:
        roles = [record.role for record in data.split(split)]
        for role, fate in (
            ("distractor", "ranked, never a match"),
            ("junk", "removed from every ranking, not counted"),
        ):
            if role in roles:
                yield f"{split}: {role} images: {roles.count(role):,} ({fate})."
    if any(record.camid is None for record in (*data.query, *data.gallery)):
        yield "Camera ids are missing, so the same-camera rule is off for these images."
    yield from _lonely_queries(data.query, data.gallery)


def _lonely_queries(query: Sequence[ImageRecord], gallery: Sequence[ImageRecord]) -> Iterable[str]:
    """Queries that metrics must leave out, by reason."""
    cameras: dict[tuple[str, int], set[int | None]] = {}
    for record in gallery:
        if record.role == "person":
            cameras.setdefault((record.source, record.pid), set()).add(record.camid)
    absent, same = [], []
    for record in query:
        seen_by = cameras.get((record.source, record.pid))
        if seen_by is None:
            absent.append(record.pid)
        elif record.camid is not None and seen_by == {record.camid}:
            same.append(record.pid)
    for pids, reason in (
        (absent, "is not in the gallery"),
        (same, "is in the gallery under the query's own camera only"),
    ):
        if pids:
            yield (
                f"{len(pids):,} of {len(query):,} queries ({len(set(pids)):,} identities) have no match: their "
                f"identity {reason}. Metrics leave them out and say how many."
            )


def _unreadable_images(data: DataSet, progress: Progress) -> list[Problem]:
    paths = sorted({record.path for split in SPLITS for record in data.split(split)})
    broken = []
    with ThreadPoolExecutor() as pool, progress.bar("decoding", len(paths), "images") as bar:
        for path, fault in zip(paths, pool.map(_fault, paths), strict=True):
            bar.advance()
            if fault:
                broken.append(f"{path} ({fault})")
    if not broken:
        return []
    what = f"{len(broken):,} of {len(paths):,} images cannot be decoded: {examples(broken)}"
    cause = "an interrupted download, copy or unpacking"
    return [Problem(what, cause, "Unpack these files again and compare the archive with its checksum.")]


def _fault(path: Path) -> str:
    """Why the image cannot be used, or "" if it can: what training would say."""
    try:
        read_image(path)
        with Image.open(path) as image:
            image.verify()  # checksums, which reading passes over
    except (ImageError, OSError, SyntaxError, ValueError) as error:
        return str(error).replace(str(path), "the file") or type(error).__name__
    return ""
