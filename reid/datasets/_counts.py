"""Comparing an opened data set with the counts that were published for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reid.datasets._base import SPLITS, Counts, DataSet, DatasetConfig, DatasetInfo, count
from reid.errors import DatasetError


@dataclass(frozen=True, slots=True)
class CountRow:
    """One split's counts, published and found; ``wanted`` is None where nothing was published for it."""

    split: str
    wanted: Counts | None
    found: Counts

    @property
    def agrees(self) -> bool:
        """Whether every published number was found."""
        return all(wanted == found for _, wanted, found in self.quantities() if wanted is not None)

    def quantities(self) -> Iterator[tuple[str, int | None, int | None]]:
        """(quantity, wanted, found) for images, identities and cameras."""
        for quantity, key in (("images", "images"), ("identities", "pids"), ("cameras", "cams")):
            yield quantity, None if self.wanted is None else getattr(self.wanted, key), getattr(self.found, key)


def count_rows(data: DataSet, info: DatasetInfo) -> tuple[CountRow, ...]:
    """The published counts of ``data``'s variant beside what is there, one row a split."""
    published = (info.counts or {}).get(data.variant, {})
    return tuple(CountRow(split, published.get(split), count(data.split(split))) for split in SPLITS)


def checked(data: DataSet, info: DatasetInfo, config: DatasetConfig) -> DataSet:
    """``data``, with ``counts_checked`` as it came out.

    Raises:
        DatasetError: there is no image at all, or ``config`` asks for the published counts and they differ.
    """
    if not (data.train or data.query or data.gallery):
        raise DatasetError(
            f"{data.label}: wanted images in {data.root}, found none. Unpack the data set there, or correct the path."
        )
    if config.expected_counts == "none" or not (info.counts or {}).get(data.variant):
        return data
    wrong = [row for row in count_rows(data, info) if not row.agrees]
    if not wrong:
        return dataclasses.replace(data, counts_checked=True)
    lines = [f"{data.label} in {data.root}: the counts differ from the published ones."]
    lines += [f"  {difference(row)}. {likely_cause(row, data, info)}." for row in wrong]
    raise DatasetError("\n".join([*lines, f"  {FIX}"]))


FIX = (
    "Unpack the data set again and compare with datasets/README.md; for a deliberate subset or a changed copy set "
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
        return "Nothing was published to compare with"
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
        counted = f" (junk is rightly not counted: {junk:,})" if junk else ""
        missing = wanted - found
        return f"{missing / wanted:.2%} of the images are missing ({missing:,}){counted}: incomplete unpacking or copy"
    if found > wanted:
        return f"Too many images ({found - wanted:,}): another release, junk without its identity -1, or foreign files"
    return "The number of images is right, the names are not: identities or cameras were renumbered"


def _variant_of(row: CountRow, counts: Mapping[str, Mapping[str, Counts]], own: str) -> str | None:
    return next((name for name, splits in counts.items() if name != own and splits.get(row.split) == row.found), None)
