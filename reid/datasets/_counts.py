"""Comparing an opened data set with the counts it should have."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reid.datasets._base import SPLITS, Counts, DataSet, Dataset, DatasetInfo, count
from reid.errors import DatasetError


@dataclass(frozen=True, slots=True)
class CountRow:
    """One split's counts, expected and found; ``wanted`` is None where nothing is known of it."""

    split: str
    wanted: Counts | None
    found: Counts

    @property
    def agrees(self) -> bool:
        """Whether every expected number was found."""
        return all(wanted == found for _, wanted, found in self.quantities() if wanted is not None)

    def quantities(self) -> Iterator[tuple[str, int | None, int | None]]:
        """(quantity, wanted, found) for images, identities and cameras."""
        for quantity, key in (("images", "images"), ("identities", "pids"), ("cameras", "cams")):
            yield quantity, None if self.wanted is None else getattr(self.wanted, key), getattr(self.found, key)


def count_rows(data: DataSet, dataset: Dataset) -> tuple[CountRow, ...]:
    """The counts that ``data`` should have beside those it has, one row a split."""
    expected = dataset.expected(data) or {}
    return tuple(CountRow(split, expected.get(split), count(data.split(split))) for split in SPLITS)


def checked(data: DataSet, dataset: Dataset) -> DataSet:
    """``data`` as ``dataset`` opened it, with ``counts_checked`` as it came out.

    Raises:
        DatasetError: there is no image at all, or the configuration asks for the expected counts and they differ.
    """
    if not (data.train or data.query or data.gallery):
        raise DatasetError(
            f"{data.label}: wanted images in {data.root}, found none. {dataset.fix}, or correct the path."
        )
    if dataset.config.expected_counts == "none" or not dataset.expected(data):
        return data
    wrong = [row for row in count_rows(data, dataset) if not row.agrees]
    if not wrong:
        return dataclasses.replace(data, counts_checked=True)
    lines = [f"{data.label} in {data.root}: the counts differ from the expected ones."]
    lines += [f"  {difference(row)}. {likely_cause(row, data, dataset.info)}." for row in wrong]
    raise DatasetError("\n".join([*lines, f"  {what_to_do(dataset)}"]))


def what_to_do(dataset: Dataset) -> str:
    """How to put wrong counts right."""
    return (
        f"{dataset.fix}; for a deliberate subset or a changed copy set "
        'expected_counts = "none" (results then say that the counts were not checked).'
    )


def difference(row: CountRow) -> str:
    """``train: wanted 12,936 images, 751 identities; found 12,935 images, 751 identities``."""
    told = [(quantity, wanted, found) for quantity, wanted, found in row.quantities() if wanted is not None]
    wanted_text = ", ".join(f"{wanted:,} {quantity}" for quantity, wanted, _ in told)
    found_text = ", ".join(f"{found if found is not None else 'no':,} {quantity}" for quantity, _, found in told)
    return f"{row.split}: wanted {wanted_text}; found {found_text}"


def likely_cause(row: CountRow, data: DataSet, info: DatasetInfo) -> str:
    """The most likely reason why ``row`` does not agree, a sentence without its full stop."""
    if row.wanted is None:
        return "Nothing is known to compare with"
    wanted, found = row.wanted.images, row.found.images
    other = _variant_of(row, info.counts or {}, data.variant)
    if found == 0:
        return "The split is empty: its folder was not unpacked, or is another data set's"
    if other is not None:
        return f"These are the counts of variant {other!r}, not of {data.variant!r}: the wrong one was opened or copied"
    if found == 2 * wanted:
        return "Every image is there twice, for example as jpg and as png"
    junk = sum(record.role == "junk" for record in data.split(row.split))
    if found < wanted:
        missing = wanted - found
        counted = f" (junk is rightly not counted: {junk:,})" if junk else ""
        share = f"{missing / wanted:.2%} of the images are missing ({missing:,}){counted}"
        return f"{share}: incomplete unpacking or copy, or files were deleted"
    if found > wanted:
        return f"Too many images ({found - wanted:,}): another release, junk without its identity -1, or foreign files"
    return "The number of images is right, the names are not: identities or cameras were renumbered"


def _variant_of(row: CountRow, counts: Mapping[str, Mapping[str, Counts]], own: str) -> str | None:
    return next((name for name, splits in counts.items() if name != own and splits.get(row.split) == row.found), None)
