"""The page about data sets, generated from what their files declare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tabulate import tabulate

from reid.datasets._base import SPLITS, DatasetInfo

HEAD = """# Data sets

This folder is the default data root: unpack each data set here, or name another folder with `--data`. No data set
is part of the repository. `reid data check NAME` compares what you have with the counts below and says what to do
where they differ; `reid data check NAME --deep` also decodes every image. A deliberate subset opens with
`expected_counts = "none"` in its table, and results on it say that the counts were not checked. `reid keys dataset`
lists all keys of their tables, such as `variant` and `train`, which choose the variants below.

This page is generated from the files in `reid/datasets/`; do not edit it by hand."""


def readme(infos: Mapping[str, DatasetInfo]) -> str:
    """The text of ``datasets/README.md``.

    Args:
        infos: component name -> what is known about the data set.

    Returns:
        Markdown that ends in a newline, one section a data set, sorted by name.
    """
    sections = [HEAD, *("\n".join(_section(name, infos[name])) for name in sorted(infos))]
    return "\n\n".join(sections) + "\n"


def _section(name: str, info: DatasetInfo) -> Iterator[str]:
    yield f"## {name}: {info.title}\n"
    yield f"- Paper: {info.paper}."
    yield f"- Licence: {info.licence}."
    yield f"- Where: {info.where}."
    if info.note:
        yield f"- {info.note}"
    yield f"\n```\n{info.tree}\n```\n"
    yield _counts(info)


def _counts(info: DatasetInfo) -> str:
    if info.counts is None:
        return f"Counts: {info.counts_from or 'none published; reported as unchecked'}."
    rows = [
        (variant or "-", split, *(_shown(number) for number in (counts.images, counts.pids, counts.cams)))
        for variant, splits in info.counts.items()
        for split, counts in ((split, splits[split]) for split in SPLITS if split in splits)
    ]
    columns = ["variant", "split", "images", "identities", "cameras"]
    return tabulate(rows, columns, "pipe", disable_numparse=True, colalign=("left", "left", "right", "right", "right"))


def _shown(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"
